/** What a device keeps of a group, and reading it through a unit of work. */
import { random, toHex } from './bytes.js';
import { E2eeError } from './errors.js';
import { acceptedKey, allSecrets, emptyRoster, fold, foldRecord } from './roster.js';
import { ordered } from './unit.js';

/** @import { Bytes } from './bytes.js' */
/** @import { Address, History } from './formats/envelope.js' */
/** @import { Ratchet, Relay, Store } from './ports.js' */
/** @import { Facts, LoggedRecord, Roster } from './roster.js' */
/** @import { SenderFacts, SenderState, SenderView } from './sender.js' */
/** @import { Unit } from './unit.js' */

/** @typedef {{store: Store, ratchet: Ratchet, relay: Relay, me: Address, chainName: string, inbox: boolean, keepFrames: boolean, now: () => number}} Context What the parts of a member share. */

/**
 * An event of a group's log, as the transport delivers it.
 *
 * @typedef {object} LogEvent
 * @property {string} group_id
 * @property {number} seq
 * @property {string} type
 * @property {Record<string, any>} data
 * @property {string} hash Of the frame's text, base64url, 43 characters.
 * @property {string} [prev] Of the frame before it.
 * @property {string} [text] The frame's text, byte for byte; left out when the transport does not have it.
 */
/** @typedef {{code: string, seq: number, ours?: string, theirs?: string, by?: string}} Stop Why nothing is sent until a person decides. */
/**
 * @typedef {object} GroupState
 * @property {{seq: number, hash: string}} position The last event processed; hash is empty before the first.
 * @property {number} epoch
 * @property {Bytes} founder
 * @property {string | null} inviter
 * @property {Stop | null} stopped
 * @property {{user: string, since: number}[]} removals Members who were removed from here and whose `member_left` is awaited.
 */
/**
 * @typedef {object} OwnChain The sender's machine, as stored.
 * @property {SenderState} state
 * @property {Bytes | null} distribution
 * @property {number} epoch
 * @property {number} madeEpoch The epoch for which the chain was made.
 * @property {number} count
 * @property {number} madeAt
 * @property {Bytes | null} firstSkdm
 * @property {{key: string, envelope: string, devices: {user: string, device: number, identity: string, skdm: Bytes}[]} | null} giving
 */
/** @typedef {{group: string, seq: number, code: string, user: string, device: number, details: Record<string, unknown>, at: number}} Warning */

/**
 * A frame as it was received, for an audit file; `heads`: where the author of the content stood, in its own words.
 *
 * @typedef {{text: string, hash: string, heads: [number, string][]}} KeptFrame
 */

/** @typedef {{field: string, kind: number, context: Bytes, body: Bytes, nonce: Bytes}} DraftPart */
/** @typedef {{distribution: string, iteration: number, epoch: number, body: Record<string, string>}} Sealed `iteration`: of the first part. */
/**
 * A draft: plaintext until the moment of sending. `sealed` is written together with the ratchet that made it, so that a retry after a crash posts
 * the same bytes under the same key. `posted` is its number; the row stays until the event itself comes back.
 *
 * @typedef {object} DraftRow
 * @property {'draft'} kind
 * @property {string} id The idempotency key.
 * @property {string} chainName
 * @property {string} type
 * @property {Record<string, unknown>} plain Fields that are not encrypted.
 * @property {DraftPart[]} parts
 * @property {number} at
 * @property {Sealed} [sealed]
 * @property {Sealed[]} [tried] Earlier seals of this draft whose posts were not answered: one of them may be in the log.
 * @property {number} [posted]
 * @property {boolean} [withheld]
 * @property {string} [refused] Why the server refused it; it is kept for a person.
 */
/** @typedef {{kind: 'record', id: string, record: Bytes}} RecordRow */
/** @typedef {{kind: 'request', id: string, distribution: Bytes}} RequestRow */
/**
 * A pairwise message for one device.
 *
 * @typedef {object} DeliverRow
 * @property {'deliver'} kind
 * @property {string} id
 * @property {Address} to
 * @property {string} identity Hexadecimal: for this identity and no other.
 * @property {Bytes} [skdm]
 * @property {History[]} history
 * @property {boolean} secret Whether the present invite secret travels with it.
 * @property {number} notBefore In milliseconds; a row that somebody else answers is deleted before.
 * @property {string} [answers] The distribution that it answers for, hexadecimal.
 * @property {{envelope: string, epoch: number}} [sealed]
 */
/** @typedef {DraftRow | RecordRow | RequestRow | DeliverRow} OutboxRow */

/** A head that is claimed or known: how many of them are kept for a group. */
export const HEADS_KEPT = 5000;

/** @param {Unit} unit @param {string} group @returns {Promise<GroupState>} @throws {E2eeError} `not_found`. */
export async function loadGroup(unit, group) {
  const state = await unit.get('groups', group);
  if (!state) throw new E2eeError('not_found', `group ${group} is unknown here: found it, or join it with an invite`);
  return state;
}

/** @param {Unit} unit @param {string} group @returns {Promise<Roster>} */
export const loadRoster = async (unit, group) => (await unit.get('roster', group)) ?? emptyRoster(group);

/** @param {Unit} unit @param {string} group @returns {Promise<Set<string>>} Users whom the server names as members. */
export const loadMembers = async (unit, group) =>
  new Set((await unit.list('members', `${group}/`)).map(([key]) => key.slice(group.length + 1)));

/** @param {Unit} unit @param {string} group @returns {Promise<LoggedRecord[]>} */
export const loadRecords = async (unit, group) => (await unit.list('records', `${group}/`)).map(([, record]) => record);

/** @param {Unit} unit @param {string} group @returns {Promise<Map<number, Bytes>>} */
const loadSecrets = async (unit, group) =>
  new Map((await unit.list('meta', `secret/${group}/`)).map(([key, secret]) => [Number(key.split('/')[2]), secret]));

/** @param {Unit} unit @param {string} group @param {number} number @param {Bytes} secret */
export const putSecret = (unit, group, number, secret) => unit.put('meta', `secret/${group}/${ordered(number)}`, secret);

/** @param {Unit} unit @param {string} group @param {number} number @returns {Promise<Bytes | undefined>} */
export const getSecret = (unit, group, number) => unit.get('meta', `secret/${group}/${ordered(number)}`);

/** @param {Unit} unit @param {string} group @returns {Promise<Facts>} What this device knows beside the records. */
export async function loadFacts(unit, group) {
  const prefix = `accepted/${group}/`;
  const accepted = new Set((await unit.list('identities', prefix)).map(([key]) => key.slice(prefix.length)));
  return { founder: (await loadGroup(unit, group)).founder, secrets: await loadSecrets(unit, group), accepted };
}

/** @param {Unit} unit @param {string} group @param {string} user @param {number} device @param {Uint8Array} identity */
export const putAccepted = (unit, group, user, device, identity) =>
  unit.put('identities', `accepted/${group}/${acceptedKey(user, device, identity)}`, true);

/**
 * Fold the group's next record into its roster.
 *
 * @param {Unit} unit
 * @param {string} group
 * @param {LoggedRecord} record
 * @returns {Promise<{roster: Roster, before: Roster}>}
 */
export async function addRecord(unit, group, record) {
  unit.put('records', `${group}/${ordered(record.seq)}`, record);
  const before = await loadRoster(unit, group);
  const roster = await foldRecord(before, record, await loadFacts(unit, group));
  unit.put('roster', group, roster);
  // The record of a newer secret opens the one before it, which earlier knocks were made with.
  if (roster.secretNumber !== before.secretNumber) return { roster: await refold(unit, group), before };
  return { roster, before };
}

/**
 * Fold all records again: a secret or an accepted identity is new. Earlier secrets are derived first.
 *
 * @param {Unit} unit
 * @param {string} group
 * @returns {Promise<Roster>}
 */
export async function refold(unit, group) {
  const facts = await loadFacts(unit, group);
  const records = await loadRecords(unit, group);
  const secrets = await allSecrets(group, records, facts.secrets);
  for (const [number, secret] of secrets) putSecret(unit, group, number, secret);
  const roster = await fold(group, records, { ...facts, secrets });
  unit.put('roster', group, roster);
  return roster;
}

/** A device that the directory has not seen for so long is given nothing, until it is seen again, in milliseconds. */
export const UNSEEN_MS = 90 * 24 * 60 * 60 * 1000;

/** @param {string} group @param {Address} [address] */
export const seenKey = (group, address) => `seen/${group}/${address ? nameOf(address) : ''}`;

/** @param {Unit} unit @param {Context} cx @param {string} group @returns {Promise<SenderView>} */
export async function loadView(unit, { me, now }, group) {
  const [{ epoch }, roster, members] = [await loadGroup(unit, group), await loadRoster(unit, group), await loadMembers(unit, group)];
  const unseen = new Set((await unit.list('identities', seenKey(group))).flatMap(([key, at]) => (now() - at > UNSEEN_MS ? [key] : [])));
  const devices = roster.devices
    .filter((one) => members.has(one.user) && nameOf(one) !== nameOf(me) && !unseen.has(seenKey(group, one)))
    .map(({ user, device, identity, suites }) => ({ user, device, identity: toHex(identity), suites }));
  return { epoch, devices, rotationDays: roster.rotationDays };
}

/** @param {Context} cx @param {string} group */
export const ownKey = (cx, group) => `${group}/${cx.chainName}`;

/** @returns {OwnChain} */
export const noChain = () => ({
  state: 'none',
  distribution: null,
  epoch: 0,
  madeEpoch: 0,
  count: 0,
  madeAt: 0,
  firstSkdm: null,
  giving: null,
});

/** @param {Unit} unit @param {Context} cx @param {string} group @returns {Promise<OwnChain>} */
export const loadOwn = async (unit, cx, group) => (await unit.get('own', ownKey(cx, group))) ?? noChain();

/** @param {Unit} unit @param {string} distribution Hexadecimal. @returns {Promise<SenderFacts['given']>} */
export const loadGiven = async (unit, distribution) => (await unit.list('given', `${distribution}/`)).map(([, row]) => row);

/** @param {string} distribution @param {Address} to */
export const givenKey = (distribution, to) => `${distribution}/${to.user}/${to.device}`;

/**
 * Forget the own chain of a name: the next draft makes another.
 *
 * @param {Unit} unit
 * @param {Context} cx
 * @param {string} key Of the table `own`.
 */
export async function dropChain(unit, cx, key) {
  const own = /** @type {OwnChain | undefined} */ (await unit.get('own', key));
  if (own?.distribution) {
    await cx.ratchet.forget(unit, own.distribution);
    // The rows of `given` stay: its messages may still be asked for.
    unit.put('own', key, noChain());
  }
}

/** @param {Unit} unit @param {Context} cx @param {Omit<Warning, 'at'>} warning */
export function warn(unit, cx, warning) {
  unit.put('warnings', `${warning.group}/${ordered(warning.seq)}/${warning.code}/${warning.user}/${warning.device}`, {
    ...warning,
    at: cx.now(),
  });
}

/**
 * Stop sending in a group until a person decides, and write the warning. The first reason stays.
 *
 * @param {Unit} unit
 * @param {Context} cx
 * @param {string} group
 * @param {Stop} why
 */
export async function stopSending(unit, cx, group, why) {
  const state = await loadGroup(unit, group);
  unit.put('groups', group, { ...state, stopped: state.stopped ?? why });
  warn(unit, cx, { group, seq: why.seq, code: why.code, user: why.by ?? '', device: 0, details: { ours: why.ours, theirs: why.theirs } });
}

/** The name of the chain under which drafts stand that the server refused. Nothing is sent with it. */
export const ASIDE = 'aside';

/** The parts of a group's outbox: drafts of each chain, drafts whose event is awaited, and everything else. */
export const outbox = Object.freeze({
  /** @param {string} group @param {string} [chainName] */
  drafts: (group, chainName) => (chainName === undefined ? `${group}/drafts/` : `${group}/drafts/${chainName}/`),
  /** @param {string} group */
  posted: (group) => `${group}/posted/`,
  /** @param {string} group @param {{distribution: string, iteration: number}} sealed */
  postedKey: (group, { distribution, iteration }) => `${group}/posted/${distribution}/${iteration}`,
  /** @param {string} group */
  service: (group) => `${group}/service/`,
});

/**
 * Append a row to the outbox.
 *
 * @param {Unit} unit
 * @param {string} group
 * @param {OutboxRow} row
 */
export async function enqueue(unit, group, row) {
  const order = ((await unit.get('meta', 'outbox_order')) ?? 0) + 1;
  unit.put('meta', 'outbox_order', order);
  const part = row.kind === 'draft' ? outbox.drafts(group, row.chainName) : outbox.service(group);
  unit.put('outbox', part + ordered(order), row);
}

/** @returns {string} An idempotency key. */
export const newKey = () => toHex(random(16));

/** @param {Address} address */
export const nameOf = ({ user, device }) => `${user}/${device}`;
