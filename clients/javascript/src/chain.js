/** The hash chain: each durable frame carries the hash of the frame before it. */
import { digest } from './sha256.js';

/** A durable frame ends so; `prev` can be cut out of it without parsing. */
const TAIL = /^,"prev":"([\w-]{43})"}$/;

/**
 * Give the `prev` of a group's event number 1: the hash of the group's id.
 *
 * @param {string} groupId
 * @returns {string}
 */
export const firstPrev = (groupId) => digest(groupId);

/**
 * Read the `prev` at the end of a durable frame, without parsing the frame.
 *
 * @param {string} text The text of the frame, byte for byte.
 * @returns {string | null} 43 characters; null when the frame does not end with a well-formed `prev`.
 */
export const prevOf = (text) => TAIL.exec(text.slice(-54))?.[1] ?? null;

/**
 * A verifier of one group's frames, in the order of their numbers.
 *
 * Without a starting hash the first frame is taken on trust, and all later ones are checked against it.
 * A chain never moves past a frame that does not fit.
 */
export class Chain {
  /** @param {string | null} [prev] Hash of the frame before the next one; `firstPrev(groupId)` before number 1; null to trust the next. */
  constructor(prev = null) {
    /** Hash of the last frame taken: what the next one must carry. Null before anything is known. */
    this.prev = prev;
  }

  /**
   * Check the next frame, and move past it when it fits.
   *
   * @param {string} text The text of the frame with the next number, byte for byte.
   * @returns {boolean} True, and the chain stands after the frame; false, and it stands where it stood: something was
   *   dropped, changed or moved, here or in the frame before.
   */
  offer(text) {
    const prev = prevOf(text);
    if (prev === null || (this.prev !== null && prev !== this.prev)) return false;
    this.prev = digest(text);
    return true;
  }
}
