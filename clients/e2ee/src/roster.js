/**
 * The roster: the fold of a group's records, in the order of the log. Who is in it may be given keys, and nobody else.
 *
 * The fold is a pure function of the records and of what this device knows: the founder's hash from the invite, and invite secrets. A record that
 * cannot be judged yet (its secret is not known here) waits; a new secret folds the records again.
 */
import { equal, toHex } from './bytes.js';
import { checkPublicKey } from './crypto/curve.js';
import { E2eeError } from './errors.js';
import { ROTATION_DAYS, earlierSecret, isKnockOf, isSignedBy, readRecord } from './formats/records.js';
import { founderHash } from './invite.js';

/** @import { Bytes } from './bytes.js' */
/** @import { DeviceFields, GroupRecord, Knock, Link, Policy, Revoke, Secret } from './formats/records.js' */

/**
 * @typedef {DeviceFields & {since: number, by: 'found' | 'knock' | 'link' | 'accepted'}} RosterDevice `since`: the number of the record.
 */
/** @typedef {{seq: number, author: string, bytes: Bytes}} LoggedRecord A record as the log has it; `author` is the server's word. */
/** @typedef {{seq: number, code: RecordFault, user: string, device: number, identity?: Bytes, suites?: number}} RecordWarning */
/**
 * Why a record counts for nothing, or is worth a warning:
 *
 * - `unreadable_record`: malformed, or of an unknown kind.
 * - `other_founder`: a founding whose key is not the invite's, or a second one.
 * - `not_proven`: a signature or MAC that does not verify, or a signer who is not in the roster.
 * - `wrong_author`: the server names another author than the record does.
 * - `revoked_identity`: a key that was revoked comes back.
 * - `held_device`: a knock for a person who has a device already; it waits for a link, or for this person's word here.
 * - `returned_person`: admitted, but with another key than before: all former devices were revoked. The safety number is another one.
 * - `waiting_secret`: made with an invite secret that is not known here yet.
 *
 * @typedef {'unreadable_record' | 'other_founder' | 'not_proven' | 'wrong_author' | 'revoked_identity' | 'held_device' | 'returned_person' | 'waiting_secret'} RecordFault
 */
/**
 * @typedef {object} Roster
 * @property {string} group
 * @property {string | null} founder The founding user; null before the founding.
 * @property {RosterDevice[]} devices
 * @property {string[]} revoked Identity keys, hexadecimal: none of them comes back.
 * @property {string[]} known Users that ever had a device here.
 * @property {number} history
 * @property {number} rotationDays
 * @property {number} secretNumber Knocks behind the record need the secret of this number.
 * @property {RecordWarning[]} warnings
 */
/**
 * @typedef {object} Facts
 * @property {Bytes} founder 16 bytes, from the invite.
 * @property {ReadonlyMap<number, Bytes>} secrets Invite secrets by number.
 * @property {ReadonlySet<string>} accepted `user/device/identity` in hexadecimal of held devices that a person accepted here.
 */

/** @param {string} group @returns {Roster} */
// biome-ignore format: a list is read across the line
export const emptyRoster = (group) => ({
  group, founder: null, devices: [], revoked: [], known: [], history: 0, rotationDays: ROTATION_DAYS, secretNumber: 0, warnings: [],
});

/** @param {Roster} roster @param {string} user @param {number} device */
export const findDevice = (roster, user, device) => roster.devices.find((one) => one.user === user && one.device === device);

/** @param {string} user @param {number} device @param {Uint8Array} identity */
export const acceptedKey = (user, device, identity) => `${user}/${device}/${toHex(identity)}`;

/**
 * Fold one record into the roster.
 *
 * @param {Roster} roster Unchanged.
 * @param {LoggedRecord} logged
 * @param {Facts} facts
 * @returns {Promise<Roster>}
 */
export async function foldRecord(roster, logged, facts) {
  const { seq, author } = logged;
  /** @param {RecordFault} code @param {Partial<RecordWarning>} [more] @returns {Roster} */
  const refuse = (code, more = {}) => ({ ...roster, warnings: [...roster.warnings, { seq, code, user: author, device: 0, ...more }] });
  /** @type {GroupRecord} */
  let record;
  try {
    record = readRecord(roster.group, logged.bytes);
  } catch {
    return refuse('unreadable_record');
  }
  const { body } = record;

  if (body.kind === 'found') {
    if (roster.founder !== null || !equal(await founderHash(body.identity), facts.founder)) return refuse('other_founder', named(body));
    if (!(await isSignedBy(record, body.identity)) || !isUsable(body.identity)) return refuse('not_proven', named(body));
    if (author !== body.user) return refuse('wrong_author', named(body));
    return { ...admit(roster, body, seq, 'found'), founder: body.user, history: body.history };
  }
  if (body.kind === 'knock') return foldKnock(roster, record, body, logged, facts, refuse);
  const signer = signerOf(roster, body);
  const about = body.kind === 'link' || body.kind === 'revoke' ? named(body) : {};
  if (!signer || !(await isSignedBy(record, signer.identity))) return refuse('not_proven', about);
  if (author !== signer.user) return refuse('wrong_author', about);
  switch (body.kind) {
    case 'link':
      if (roster.revoked.includes(toHex(body.identity))) return refuse('revoked_identity', named(body));
      return isUsable(body.identity) ? admit(roster, body, seq, 'link') : refuse('not_proven', named(body));
    case 'revoke':
      return signer.user === body.user || signer.user === roster.founder ? revoke(roster, body) : refuse('not_proven', named(body));
    case 'secret':
      return body.number === roster.secretNumber + 1 ? { ...roster, secretNumber: body.number } : refuse('not_proven');
    case 'policy':
      return { ...roster, history: body.history, rotationDays: body.rotationDays };
  }
}

/** @param {Roster} roster @param {Link | Revoke | Secret | Policy} body @returns {RosterDevice | undefined} The device that must have signed. */
function signerOf(roster, body) {
  switch (body.kind) {
    case 'link':
      return findDevice(roster, body.user, body.byDevice);
    case 'policy':
      return roster.founder === null ? undefined : findDevice(roster, roster.founder, body.byDevice);
    case 'revoke':
    case 'secret':
      return findDevice(roster, body.byUser, body.byDevice);
  }
}

/**
 * @param {Roster} roster
 * @param {GroupRecord} record
 * @param {Knock} body
 * @param {LoggedRecord} logged
 * @param {Facts} facts
 * @param {(code: RecordFault, more?: Partial<RecordWarning>) => Roster} refuse
 */
async function foldKnock(roster, record, body, { seq, author }, facts, refuse) {
  const about = { ...named(body), identity: body.identity, suites: body.suites };
  if (author !== body.user) return refuse('wrong_author', about);
  if (body.secretNumber !== roster.secretNumber || !isUsable(body.identity)) return refuse('not_proven', about);
  const secret = facts.secrets.get(body.secretNumber);
  if (!secret) return refuse('waiting_secret', about);
  if (!(await isKnockOf(record, roster.group, secret))) return refuse('not_proven', about);
  if (roster.revoked.includes(toHex(body.identity))) return refuse('revoked_identity', about);
  const present = findDevice(roster, body.user, body.device);
  if (present && equal(present.identity, body.identity)) return roster;
  if (!roster.devices.some(({ user }) => user === body.user)) {
    const admitted = admit(roster, body, seq, 'knock');
    if (!roster.known.includes(body.user)) return admitted;
    return { ...admitted, warnings: [...roster.warnings, { seq, code: /** @type {const} */ ('returned_person'), ...about }] };
  }
  if (facts.accepted.has(acceptedKey(body.user, body.device, body.identity))) return admit(roster, body, seq, 'accepted');
  return refuse('held_device', about);
}

/** @param {{user: string, device: number}} body */
const named = ({ user, device }) => ({ user, device });

/** @param {Bytes} identity */
function isUsable(identity) {
  try {
    checkPublicKey(identity);
    return true;
  } catch {
    return false;
  }
}

/** @param {Roster} roster @param {DeviceFields} fields @param {number} seq @param {RosterDevice['by']} by @returns {Roster} */
function admit(roster, { user, device, identity, suites }, seq, by) {
  const others = roster.devices.filter((one) => one.user !== user || one.device !== device);
  return {
    ...roster,
    devices: [...others, { user, device, identity, suites, since: seq, by }],
    known: roster.known.includes(user) ? roster.known : [...roster.known, user],
  };
}

/** @param {Roster} roster @param {Revoke} body @returns {Roster} */
function revoke(roster, { user, device }) {
  const gone = roster.devices.filter((one) => one.user === user && (device === 0 || one.device === device));
  return {
    ...roster,
    devices: roster.devices.filter((one) => !gone.includes(one)),
    revoked: [...roster.revoked, ...gone.map((one) => toHex(one.identity))],
  };
}

/**
 * Fold all records of a group.
 *
 * @param {string} group
 * @param {Iterable<LoggedRecord>} records In the order of the log.
 * @param {Facts} facts
 */
export async function fold(group, records, facts) {
  let roster = emptyRoster(group);
  for (const record of records) roster = await foldRecord(roster, record, facts);
  return roster;
}

/**
 * Derive every earlier invite secret from a newer one, by the records that seal each under its successor.
 *
 * @param {string} group
 * @param {Iterable<LoggedRecord>} records
 * @param {ReadonlyMap<number, Bytes>} secrets
 * @returns {Promise<Map<number, Bytes>>}
 */
export async function allSecrets(group, records, secrets) {
  const known = new Map(secrets);
  const bodies = [];
  for (const { bytes } of records) {
    try {
      const { body } = readRecord(group, bytes);
      if (body.kind === 'secret') bodies.push(body);
    } catch (error) {
      if (!(error instanceof E2eeError)) throw error;
    }
  }
  for (const { number, earlier } of bodies.sort((a, b) => b.number - a.number)) {
    const secret = known.get(number);
    if (!secret || known.has(number - 1)) continue;
    const found = await earlierSecret(group, secret, earlier);
    if (found) known.set(number - 1, found);
  }
  return known;
}
