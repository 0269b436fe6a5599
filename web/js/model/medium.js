/** The encrypted metadata of a medium. Another member's program wrote it, so every field is validated. */

/** @import {MediaInfo} from './types.js' */

/** Types that the page renders. Any other is download-only: the metadata must not name a type that a browser would run. */
const SHOWN = /^(image\/(png|jpeg|gif|webp|avif|bmp)|video\/(mp4|webm|ogg|quicktime)|audio\/(mpeg|mp4|ogg|webm|wav))$/;
const NAME_LETTERS = 200;
const TYPE_LETTERS = 100;
/** Larger than any camera's picture. */
const MAX_SIDE_PX = 100_000;

/** @param {string} type @returns {string} The type under which a file may be handed to the browser. */
export const shownAs = (type) => (SHOWN.test(type) ? type : 'application/octet-stream');

/** @param {unknown} value @returns {value is number} */
const isSide = (value) => Number.isInteger(value) && /** @type {number} */ (value) > 0 && /** @type {number} */ (value) <= MAX_SIDE_PX;

/**
 * Parse and validate metadata.
 *
 * @param {string | null} text The plain text.
 * @returns {MediaInfo | null} Null when it is malformed.
 */
export function readMediaInfo(text) {
  /** @type {any} */
  let found;
  try {
    found = JSON.parse(text ?? 'null');
  } catch {
    return null;
  }
  const { name, type = '', width, height } = found ?? {};
  if (typeof name !== 'string' || typeof type !== 'string') return null;
  return {
    name: [...name].slice(0, NAME_LETTERS).join('') || 'a file',
    type: type.slice(0, TYPE_LETTERS),
    ...(isSide(width) && isSide(height) && { width, height }),
  };
}
