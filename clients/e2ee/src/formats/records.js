/** The roster's records: signed statements in the group's log about who may be given keys. */
import { concat, equal, random, utf8, uuidBytes, uuidText } from '../bytes.js';
import { verify } from '../crypto/curve.js';
import { gcmOpen, gcmSeal, hkdf, hmac } from '../crypto/mac.js';
import { E2eeError } from '../errors.js';
import { decode, encode } from './protobuf.js';
import { LENGTHS, RECORD, RECORD_BODIES } from './schemas.js';

/** @import { Bytes } from '../bytes.js' */

/** @typedef {'found' | 'knock' | 'link' | 'revoke' | 'secret' | 'policy'} RecordKind */
/** History that later members may be given: none, since they joined, all. */
export const HISTORY_POLICY = Object.freeze({ none: 0, joined: 1, all: 2 });
/** Days after which a chain is replaced, when no policy says otherwise. */
export const ROTATION_DAYS = 7;

/** @typedef {{user: string, device: number, identity: Bytes, suites: number}} DeviceFields */
/** @typedef {{kind: 'found', history: number} & DeviceFields} Found */
/** @typedef {{kind: 'knock', secretNumber: number} & DeviceFields} Knock */
/** @typedef {{kind: 'link', byDevice: number} & DeviceFields} Link */
/** @typedef {{kind: 'revoke', user: string, device: number, byUser: string, byDevice: number}} Revoke `device` 0: every device of the user. */
/** @typedef {{kind: 'secret', number: number, byUser: string, byDevice: number, earlier: Bytes}} Secret `earlier`: the secret before it, sealed under this one. */
/** @typedef {{kind: 'policy', history: number, rotationDays: number, byDevice: number}} Policy */
/** @typedef {Found | Knock | Link | Revoke | Secret | Policy} RecordBody */
/** @typedef {{body: RecordBody, signed: Bytes, proof: Bytes}} GroupRecord `signed`: the bytes that the proof covers. */
/** @typedef {{publicKey: Bytes, sign(message: Uint8Array): Promise<Bytes>}} Signer The identity of a device: 33 bytes and XEdDSA signatures. */

const KINDS = /** @type {RecordKind[]} */ (Object.keys(RECORD_BODIES));
const USERS = /** @type {const} */ (['user', 'byUser']);

/** @param {string} group @param {RecordKind} kind @param {Uint8Array} body @returns {Bytes} */
const signedPart = (group, kind, body) => concat(utf8(`orbital/2 ${kind}\0`), uuidBytes(group), body);

/** @param {RecordBody} body @returns {Bytes} Numbers that are 0 by default are left out. */
function writeBody(body) {
  /** @type {Record<string, any>} */
  const fields = { ...body };
  for (const name of USERS) if (fields[name] !== undefined) fields[name] = uuidBytes(fields[name]);
  if (body.kind === 'revoke' && body.device === 0) delete fields.device;
  for (const name of ['history', 'secretNumber']) if (fields[name] === 0) delete fields[name];
  return encode(RECORD_BODIES[body.kind], fields);
}

/**
 * Derive the key that proves knowledge of an invite secret in one group.
 *
 * @param {Bytes} secret 16 bytes.
 * @param {string} group
 * @param {string} label
 * @returns {Promise<Bytes>} 32 bytes.
 */
const secretKey = (secret, group, label) => hkdf(secret, uuidBytes(group), `orbital/2 ${label}\0`, 32);

/** @param {Bytes} secret @param {string} group @param {Bytes} signed */
const knockProof = async (secret, group, signed) => hmac(await secretKey(secret, group, 'knock'), signed);

/**
 * Write a record and prove it.
 *
 * @param {string} group
 * @param {RecordBody} body
 * @param {Signer | Bytes} proof The signing identity; of a knock the invite secret.
 * @returns {Promise<Bytes>}
 */
export async function writeRecord(group, body, proof) {
  const written = writeBody(body);
  const signed = signedPart(group, body.kind, written);
  const made = proof instanceof Uint8Array ? await knockProof(proof, group, signed) : await proof.sign(signed);
  return encode(RECORD, { [body.kind]: written, proof: made });
}

/**
 * Read a record. Its proof is not verified here.
 *
 * @param {string} group
 * @param {Uint8Array} bytes
 * @returns {GroupRecord}
 * @throws {E2eeError} `malformed`, `unsupported` for a kind that this client does not have.
 */
export function readRecord(group, bytes) {
  const record = decode(RECORD, bytes);
  const kinds = KINDS.filter((kind) => record[kind] !== undefined);
  if (kinds.length === 0) throw new E2eeError('unsupported', 'a record of a kind that is unknown here');
  if (kinds.length > 1) throw new E2eeError('malformed', `a record of ${kinds.length} kinds`);
  const kind = /** @type {RecordKind} */ (kinds[0]);
  const fields = decode(RECORD_BODIES[kind], record[kind]);
  for (const name of USERS) if (fields[name] !== undefined) fields[name] = uuidText(fields[name]);
  if (kind === 'found' || kind === 'policy') fields.history ??= 0;
  if (kind === 'policy') fields.rotationDays ??= ROTATION_DAYS;
  if (kind === 'knock') fields.secretNumber ??= 0;
  if (kind === 'revoke') fields.device ??= 0;
  const wanted = kind === 'knock' ? LENGTHS.mac : LENGTHS.signature;
  if (record.proof.length !== wanted)
    throw new E2eeError('malformed', `the proof of a ${kind} has ${record.proof.length} bytes, not ${wanted}`);
  return { body: /** @type {RecordBody} */ ({ kind, ...fields }), signed: signedPart(group, kind, record[kind]), proof: record.proof };
}

/** @param {GroupRecord} record @param {Uint8Array} identity @returns {Promise<boolean>} Whether this identity signed the record. */
export const isSignedBy = (record, identity) => verify(identity, record.signed, record.proof);

/** @param {GroupRecord} record @param {string} group @param {Bytes} secret @returns {Promise<boolean>} Whether a knock was made with this secret. */
export const isKnockOf = async (record, group, secret) => equal(record.proof, await knockProof(secret, group, record.signed));

/** The one message under a secret's own key needs no random nonce. */
const ONCE = new Uint8Array(12);

/**
 * Make the next invite secret and seal the present one under it, so that later members can verify earlier knocks.
 *
 * @param {string} group
 * @param {Bytes} present
 * @returns {Promise<{secret: Bytes, earlier: Bytes}>}
 */
export async function nextSecret(group, present) {
  const secret = random(LENGTHS.secret);
  return { secret, earlier: await gcmSeal(await secretKey(secret, group, 'earlier'), ONCE, present) };
}

/** @param {string} group @param {Bytes} secret @param {Bytes} earlier @returns {Promise<Bytes | null>} The secret before it; null when it does not open. */
export async function earlierSecret(group, secret, earlier) {
  try {
    return await gcmOpen(await secretKey(secret, group, 'earlier'), ONCE, earlier);
  } catch {
    return null;
  }
}
