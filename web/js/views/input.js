/** Validation of typed text: maximum length of a text and a title. */

/** Characters of one text. The server's limit for the ciphertext is far above it. */
export const TEXT_LETTERS = 20_000;
export const TITLE_LETTERS = 200;

/** WebKit and some input methods report the confirming key with this code instead of `isComposing` (UI Events §8.3.1). */
const INPUT_METHOD = 229;

/** @param {{isComposing: boolean, keyCode: number}} event @returns {boolean} Whether a key confirms a word of an input method. */
export const isConfirming = ({ isComposing, keyCode }) => isComposing || keyCode === INPUT_METHOD;

/** @param {string} text @param {number} [limit] @returns {string} The error if it is too long, else an empty string. */
export function tooLong(text, limit = TEXT_LETTERS) {
  if (text.length <= limit) return '';
  const count = (/** @type {number} */ number) => number.toLocaleString('en');
  return `This text has ${count(text.length)} characters; the limit is ${count(limit)}. Nothing was cut: shorten or split it.`;
}
