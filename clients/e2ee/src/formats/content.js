/** What is encrypted: a kind, the place it belongs to, a body, and where its sender stood in the log; padded. */
import { concat, uuidBytes, uuidText } from '../bytes.js';
import { E2eeError } from '../errors.js';
import { decode, encode } from './protobuf.js';
import { CONTENT } from './schemas.js';

/** @import { Bytes } from '../bytes.js' */

/** Lengths are whole multiples of this after PKCS#7; the padding leaves room for its one byte. */
export const PAD_BYTES = 160;
/** Kinds of content. The context is: of a message 16 random bytes, of title and body the same 16 random bytes, of a reply its thread, of media its id. */
export const KINDS = Object.freeze({ message: 1, title: 2, body: 3, reply: 4, media: 5, name: 6, annotation: 7 });

/**
 * @typedef {object} Content
 * @property {number} kind One of KINDS; others are free.
 * @property {string} group
 * @property {Bytes} context 16 bytes.
 * @property {number} at The sender's clock, in milliseconds since the Unix epoch: shown, never trusted.
 * @property {Bytes} body
 * @property {number} [headSeq] The group's last event that the sender has processed.
 * @property {Bytes} [headHash] The first 16 bytes of that frame's hash.
 * @property {Bytes} nonce 16 bytes, the same on every retry of one draft.
 */

/** @param {Content} content @returns {Bytes} Padded to 160·n − 1 bytes. */
export function writeContent(content) {
  const bytes = encode(CONTENT, { ...content, group: uuidBytes(content.group) });
  const length = Math.ceil((bytes.length + 2) / PAD_BYTES) * PAD_BYTES - 1;
  return concat(bytes, Uint8Array.of(0x80), new Uint8Array(length - bytes.length - 1));
}

/**
 * @param {Uint8Array} padded
 * @returns {Content}
 * @throws {E2eeError} `malformed`, also when the padding or the length is not as written above.
 */
export function readContent(padded) {
  if ((padded.length + 1) % PAD_BYTES !== 0)
    throw new E2eeError('malformed', `content of ${padded.length} bytes is not padded to a multiple of ${PAD_BYTES}`);
  let end = padded.length - 1;
  while (end >= 0 && padded[end] === 0) end--;
  if (end < 0 || padded[end] !== 0x80) throw new E2eeError('malformed', 'content without the mark of its padding');
  const found = decode(CONTENT, padded.subarray(0, end));
  return /** @type {Content} */ ({ ...found, group: uuidText(found.group) });
}
