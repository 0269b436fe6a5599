/** SenderKeyMessage and SKDM, version 3, byte for byte as libsignal writes them. */
import { concat } from '../bytes.js';
import { E2eeError } from '../errors.js';
import { decode, encode } from './protobuf.js';
import { DISTRIBUTION_MESSAGE, LENGTHS, SENDER_KEY_MESSAGE } from './schemas.js';

/** @import { Bytes } from '../bytes.js' */

/** High half: the message's version; low half: the version that its writer has. */
const VERSION_BYTE = 0x33;
/** A block of AES. */
const BLOCK = 16;

/** @typedef {{distribution: Bytes, chain: number, iteration: number, ciphertext: Bytes}} SenderKeyFields */
/** @typedef {SenderKeyFields & {signed: Bytes, signature: Bytes}} SenderKeyMessage `signed`: the bytes that the signature covers. */
/** @typedef {{distribution: Bytes, chain: number, iteration: number, chainKey: Bytes, signingKey: Bytes}} Skdm */

/** @param {Uint8Array} bytes @param {string} what */
function checkVersion(bytes, what) {
  if (bytes[0] === VERSION_BYTE) return;
  throw new E2eeError('unsupported', `${what} of version byte ${bytes[0] ?? 'missing'}, not ${VERSION_BYTE}`);
}

/** @param {SenderKeyFields} fields @returns {Bytes} The bytes to sign; the signature follows them. */
export const senderKeyBody = (fields) => concat(Uint8Array.of(VERSION_BYTE), encode(SENDER_KEY_MESSAGE, fields));

/** @param {Uint8Array} bytes @returns {SenderKeyMessage} @throws {E2eeError} `unsupported`, `malformed`. The signature is not verified here. */
export function readSenderKeyMessage(bytes) {
  checkVersion(bytes, 'a SenderKeyMessage');
  if (bytes.length < 1 + LENGTHS.signature) throw new E2eeError('malformed', 'a SenderKeyMessage shorter than its signature');
  const signed = new Uint8Array(bytes.subarray(0, bytes.length - LENGTHS.signature));
  const fields = /** @type {SenderKeyFields} */ (decode(SENDER_KEY_MESSAGE, signed.subarray(1)));
  if (fields.ciphertext.length === 0 || fields.ciphertext.length % BLOCK !== 0)
    throw new E2eeError('malformed', `a ciphertext of ${fields.ciphertext.length} bytes is not made of whole blocks`);
  return { ...fields, signed, signature: new Uint8Array(bytes.subarray(bytes.length - LENGTHS.signature)) };
}

/** @param {Skdm} skdm @returns {Bytes} */
export const writeSkdm = (skdm) => concat(Uint8Array.of(VERSION_BYTE), encode(DISTRIBUTION_MESSAGE, skdm));

/** @param {Uint8Array} bytes @returns {Skdm} @throws {E2eeError} `unsupported`, `malformed`. The key is not checked here. */
export function readSkdm(bytes) {
  checkVersion(bytes, 'a distribution message');
  return /** @type {Skdm} */ (decode(DISTRIBUTION_MESSAGE, bytes.subarray(1)));
}
