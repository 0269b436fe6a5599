/** Envelopes and what travels in them: keys for devices, requests for keys, and the labels that bind them. */
import { concat, u32, utf8, uuidBytes, uuidText } from '../bytes.js';
import { E2eeError } from '../errors.js';
import { decode, encode } from './protobuf.js';
import { ENVELOPE, PAIRWISE, SIGNED } from './schemas.js';

/** @import { Bytes } from '../bytes.js' */

/** First byte of an envelope: 0x01 is one AES key for a group, 0x03 is kept for MLS. */
export const VERSION = 2;
/** How a key reaches a device. */
export const SUITES = Object.freeze({ preKeySignal: 1, signal: 2, hpke: 16 });
/** Bits of a device's `suites`. */
export const SUITE_BITS = Object.freeze({ libsignal: 1, hpke: 2 });

/** @typedef {{user: string, device: number, suite: number, sealed: Bytes}} Delivery */
/** @typedef {{device: number, epoch: number, deliveries: Delivery[]}} Keys */
/** @typedef {{device: number, distribution: Bytes}} Request */
/** @typedef {{content?: Bytes, keys?: Keys, request?: Request}} Envelope */
/** @typedef {{user: string, device: number, skdm: Bytes, proof?: Bytes, proofKeyId?: number}} History */
/**
 * @typedef {object} Pairwise
 * @property {string} group
 * @property {Bytes} [skdm] The sender's own chain.
 * @property {number} epoch
 * @property {number} [headSeq]
 * @property {Bytes} [headHash]
 * @property {History[]} history Chains of others.
 * @property {Bytes} [secret] The invite secret with the number `secretNumber`.
 * @property {number} [secretNumber]
 * @property {boolean} shareable Whether the receiver may give this chain to later members.
 */
/** @typedef {{pairwise: Bytes, identity: Bytes, signature: Bytes}} Signed */
/** @typedef {{user: string, device: number}} Address */

/** @param {Envelope} envelope @returns {Bytes} */
export function writeEnvelope({ content, keys, request }) {
  const deliveries = keys?.deliveries.map((one) => ({ ...one, user: uuidBytes(one.user) }));
  return concat(Uint8Array.of(VERSION), encode(ENVELOPE, { content, keys: keys && { ...keys, deliveries }, request }));
}

/**
 * @param {Uint8Array} bytes
 * @returns {Envelope}
 * @throws {E2eeError} `unsupported` for another version, `malformed`.
 */
export function readEnvelope(bytes) {
  if (bytes[0] !== VERSION)
    throw new E2eeError('unsupported', `envelope version ${bytes[0] ?? 'missing'} is not supported here`, { version: bytes[0] });
  const { content, keys, request } = decode(ENVELOPE, bytes.subarray(1));
  if (keys) for (const one of keys.deliveries) one.user = uuidText(one.user);
  return { ...(content && { content }), ...(keys && { keys }), ...(request && { request }) };
}

/** @param {Pairwise} pairwise @returns {Bytes} */
export const writePairwise = (pairwise) =>
  encode(PAIRWISE, {
    ...pairwise,
    group: uuidBytes(pairwise.group),
    history: pairwise.history.map((one) => ({ ...one, user: uuidBytes(one.user) })),
    shareable: pairwise.shareable ? 1 : undefined,
  });

/** @param {Uint8Array} bytes @returns {Pairwise} @throws {E2eeError} `malformed`. */
export function readPairwise(bytes) {
  const found = decode(PAIRWISE, bytes);
  for (const one of found.history) one.user = uuidText(one.user);
  return /** @type {Pairwise} */ ({ ...found, group: uuidText(found.group), shareable: found.shareable === 1 });
}

/** @param {Signed} signed @returns {Bytes} */
export const writeSigned = (signed) => encode(SIGNED, signed);

/** @param {Uint8Array} bytes @returns {Signed} @throws {E2eeError} `malformed`. */
export const readSigned = (bytes) => /** @type {Signed} */ (decode(SIGNED, bytes));

/**
 * Return the info of a suite-16 delivery: it opens for no other group, sender or receiver.
 *
 * @param {string} group
 * @param {Address} from
 * @param {Address} to
 * @returns {Bytes}
 */
export const deliveryInfo = (group, from, to) =>
  concat(
    utf8('orbital/2 keys\0'),
    uuidBytes(group),
    uuidBytes(from.user),
    Uint8Array.of(from.device),
    uuidBytes(to.user),
    Uint8Array.of(to.device),
  );

/**
 * Return the bytes that `Signed.signature` covers.
 *
 * @param {Uint8Array} info Of the delivery.
 * @param {number} preKeyId
 * @param {Uint8Array} pairwise
 */
export const signedBytes = (info, preKeyId, pairwise) => concat(info, u32(preKeyId), pairwise);
