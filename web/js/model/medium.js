/** The sealed description of a medium. Another member's program wrote it: nothing in it is trusted before it is checked. */

/** @import {MediaInfo} from './types.js' */

/** What a page may show. Anything else is only saved: no type that a browser would run may come from a description. */
const SHOWN = /^(image\/(png|jpeg|gif|webp|avif|bmp)|video\/(mp4|webm|ogg|quicktime)|audio\/(mpeg|mp4|ogg|webm|wav))$/;
const NAME_LETTERS = 200;
const TYPE_LETTERS = 100;
/** No camera makes a larger side, and no layout needs one. */
const MAX_SIDE_PX = 100_000;

/** @param {string} type @returns {string} The type under which a file may be handed to the browser. */
export const shownAs = (type) => (SHOWN.test(type) ? type : 'application/octet-stream');

/** @param {unknown} value @returns {value is number} */
const isSide = (value) => Number.isInteger(value) && /** @type {number} */ (value) > 0 && /** @type {number} */ (value) <= MAX_SIDE_PX;

/**
 * Read a description.
 *
 * @param {string | null} text What was opened.
 * @returns {MediaInfo | null} Null when it is not a description.
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
