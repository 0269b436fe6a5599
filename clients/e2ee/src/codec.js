/** Values as text, for stores that hold text: plain data with byte strings in it. */
import { fromBase64, toBase64 } from './bytes.js';

/** The one key that stands for a byte string. */
const BYTES = '$bytes';

/** @param {unknown} value @returns {string} */
export const toText = (value) => JSON.stringify(value, (_, one) => (one instanceof Uint8Array ? { [BYTES]: toBase64(one) } : one));

/** @param {string} text @returns {unknown} */
export const fromText = (text) =>
  JSON.parse(text, (_, one) => (one !== null && typeof one === 'object' && typeof one[BYTES] === 'string' ? fromBase64(one[BYTES]) : one));
