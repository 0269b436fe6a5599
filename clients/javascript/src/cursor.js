/** The cursor: deduplication and gap detection by sequence number. */

/**
 * What a reader at some position makes of an event's number.
 *
 * - `next`: the event right after the position: take it.
 * - `seen`: an event at or before the position: drop it.
 * - `gap`: an event beyond the next one: read the log from the position on before taking it.
 *
 * @typedef {'next' | 'seen' | 'gap'} Verdict
 */

/**
 * A reader's position in the numbers of one group.
 *
 * The numbers of a group run 1, 2, 3, … without a hole, so one integer says all that was seen.
 * A cursor never moves backwards and never skips a number.
 */
export class Cursor {
  /**
   * @param {number} [last] Number of the last event taken; 0 stands before the first.
   * @throws {RangeError} If `last` is no integer, or below 0.
   */
  constructor(last = 0) {
    if (!Number.isSafeInteger(last) || last < 0) throw RangeError(`${last} is not a position`);
    /** Number of the last event taken; 0 before the first. */
    this.last = last;
  }

  /**
   * Judge the event with number `seq`, and move to it when it is the next one.
   *
   * @param {number} seq The event's number in its group, from 1.
   * @returns {Verdict} `next`, and the cursor stands at `seq`; `seen` or `gap`, and it stands where it stood.
   */
  offer(seq) {
    if (seq === this.last + 1) {
      this.last = seq;
      return 'next';
    }
    return seq <= this.last ? 'seen' : 'gap';
  }
}
