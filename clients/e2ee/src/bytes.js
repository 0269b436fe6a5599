/** Byte strings: joining, comparing, and the texts that stand for them. */

/** @typedef {Uint8Array<ArrayBuffer>} Bytes Bytes in a buffer that nothing else shares; WebCrypto takes nothing else. */

const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
const HEX = /^(?:[0-9a-f]{2})*$/;
const UUID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const BASE64 = /^[A-Za-z0-9+/_-]*={0,2}$/;

/** @param {string} text @returns {Bytes} */
export const utf8 = (text) => encoder.encode(text);

/** @param {Uint8Array} bytes @returns {string} @throws {TypeError} If the bytes are not UTF-8. */
export const fromUtf8 = (bytes) => decoder.decode(bytes);

/** @param {...Uint8Array} parts @returns {Bytes} */
export function concat(...parts) {
  const joined = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    joined.set(part, at);
    at += part.length;
  }
  return joined;
}

/**
 * Compare two byte strings. The time depends on the lengths alone.
 *
 * @param {Uint8Array} a
 * @param {Uint8Array} b
 */
export function equal(a, b) {
  if (a.length !== b.length) return false;
  let differs = 0;
  for (let at = 0; at < a.length; at++) differs |= /** @type {number} */ (a[at]) ^ /** @type {number} */ (b[at]);
  return differs === 0;
}

/** @param {Uint8Array} bytes @returns {Bytes} A copy in a buffer of its own. */
export const copy = (bytes) => new Uint8Array(bytes);

/** @param {number} length In bytes. @returns {Bytes} From the platform's secure source. */
export const random = (length) => crypto.getRandomValues(new Uint8Array(length));

/** @param {number} value 0 to 2^32 − 1. @returns {Bytes} Four bytes, big-endian. */
export const u32 = (value) => Uint8Array.of(value >>> 24, value >>> 16, value >>> 8, value);

/** @param {Uint8Array} bytes @returns {string} */
export const toHex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');

/** @param {string} text @returns {Bytes} @throws {RangeError} If the text is not lower-case hexadecimal. */
export function fromHex(text) {
  if (!HEX.test(text)) throw new RangeError(`not lower-case hexadecimal: ${text.length} characters`);
  return Uint8Array.from({ length: text.length / 2 }, (_, at) => parseInt(text.slice(2 * at, 2 * at + 2), 16));
}

/** @param {Uint8Array} bytes @returns {string} Standard alphabet, padded. */
export function toBase64(bytes) {
  let text = '';
  // 32 KiB a call: engines bound the number of arguments.
  for (let at = 0; at < bytes.length; at += 0x8000) text += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
  return btoa(text);
}

/** @param {Uint8Array} bytes @returns {string} URL-safe alphabet, not padded. */
export const toBase64Url = (bytes) => toBase64(bytes).replace(/\+/g, '-').replace(/\//g, '_').replace(/=+$/, '');

/** @param {string} text Standard or URL-safe, padded or not. @returns {Bytes} @throws {RangeError} If the text is not base64. */
export function fromBase64(text) {
  const bare = text.replace(/=+$/, '');
  if (!BASE64.test(text) || bare.length % 4 === 1) throw new RangeError(`not base64: ${text.length} characters`);
  return Uint8Array.from(atob(bare.replace(/-/g, '+').replace(/_/g, '/')), (letter) => letter.charCodeAt(0));
}

/** @param {string} id A lower-case UUID. @returns {Bytes} Its 16 bytes. @throws {RangeError} If it is not a UUID. */
export function uuidBytes(id) {
  if (!UUID.test(id)) throw new RangeError(`not a lower-case UUID: ${JSON.stringify(id.slice(0, 40))}`);
  return fromHex(id.replace(/-/g, ''));
}

/** @param {Uint8Array} bytes 16 bytes. @returns {string} A lower-case UUID. */
export function uuidText(bytes) {
  const hex = toHex(bytes);
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}
