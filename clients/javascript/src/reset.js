/** Reasons of a reset: why events are permanently missing. */

/** @typedef {(typeof RESET)[keyof typeof RESET]} ResetReason */

/**
 * The reasons of a `reset`.
 *
 * - `NOT_RECOVERED`: the server said that it does not have all that follows our position: too old, or its log is another one than before.
 * - `GONE`: the log said so (410).
 * - `HOLE`: a number is missing in the log.
 * - `NOT_IN_LOG`: the server announced numbers that its log does not have.
 */
export const RESET = /** @type {const} */ ({
  NOT_RECOVERED: 'not recovered',
  GONE: 'gone',
  HOLE: 'a hole in the log',
  NOT_IN_LOG: 'not in the log',
});
