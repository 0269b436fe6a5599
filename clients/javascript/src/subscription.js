/** What an application sees of a group: the items of its subscription, and its position. */
import { OrbitalError } from './errors.js';

/** @import {ResetReason} from './reset.js' */
/** @import {Store} from './stores.js' */
/** @import {OrbitalEvent} from './wire.js' */

/** Events that wait for a slow application. Further ones stay in the server's log, and are read from there when there is room again. */
export const MAX_WAITING = 1000;

/**
 * A position in a group: the number of the last event, and the hash of that frame when it is known.
 *
 * @typedef {{seq: number, hash?: string}} Position
 */

/**
 * Some events between two that you receive are permanently missing: they are no longer kept, or the server's log is another one than
 * before. What you made of the group's events may be wrong: fetch it again. Events continue after `data.seq`.
 *
 * @typedef {{type: 'reset', group_id: string, data: {last: number, seq: number, reason: ResetReason}}} Reset
 */

/**
 * Everything up to `data.seq`, the group's last number when the connection was made, was received; what follows is live.
 *
 * @typedef {{type: 'caught_up', group_id: string, data: {seq: number}}} CaughtUp
 */

/**
 * The proof that a server dropped, changed or re-ordered something.
 *
 * - `changed`: the frame's `prev` is not the hash of the frame before it.
 * - `skipped`: the socket omitted a number; it was fetched from the log, if it is there.
 * - `repeated`: the socket went back, or sent a number twice.
 * - `withheld`: the server reported that the next events are no longer there, and its log has them.
 * - `left`: the server ended the subscription because the user had left, without the `member_left` that must come before.
 *
 * @typedef {{kind: 'changed' | 'skipped' | 'repeated' | 'withheld' | 'left', group_id: string, seq: number, expected: string | number | null, found: string | number | null}} Violation
 */

/** @typedef {OrbitalEvent | Reset | CaughtUp} StreamItem */

/**
 * @typedef {object} SubscribeOptions
 * @property {number | Position | undefined} [since] Where to start when the store has no position: after this number; 0 is from the group's
 *   first event. Left out: with events that are posted from now on.
 * @property {Store | null | undefined} [store] Where the position is kept, instead of the client's; null keeps none.
 * @property {((event: OrbitalEvent) => unknown) | undefined} [onEvent] Called with each event, one after the other: a promise that it returns is awaited.
 * @property {((reset: Reset) => unknown) | undefined} [onReset]
 * @property {((caughtUp: CaughtUp) => unknown) | undefined} [onCaughtUp]
 * @property {((error: OrbitalError | undefined) => unknown) | undefined} [onEnd] Called once, after the last item: with an error when the server
 *   refused the group or this client, or removed the user; without one when the subscription was closed.
 */

/**
 * One application's view of one group. Iterate over it, or give callbacks; not both.
 *
 * The position moves when an item is done with: when the callback has returned (and its promise is settled), or when the
 * loop asks for the next item. So a crash in between repeats an item, and never loses one.
 *
 * @typedef {object} SubscriptionMembers
 * @property {string} groupId
 * @property {Position} [position] After the last item that the application is done with.
 * @property {boolean} closed Whether the subscription has ended.
 * @property {() => void} close End the subscription. Items that wait are discarded; the position stays where the application is.
 */

/** @typedef {SubscriptionMembers & AsyncIterable<StreamItem, void>} Subscription */

/**
 * Check a position that an application or its store gave.
 *
 * @param {unknown} where
 * @param {string} what Named in the error.
 * @returns {Position}
 * @throws {OrbitalError} `VALIDATION_ERROR` when it is neither a whole number from 0 on nor an object with one.
 */
export function readPosition(where, what) {
  const { seq, hash } = /** @type {any} */ (typeof where === 'number' ? { seq: where } : (where ?? {}));
  if (!Number.isSafeInteger(seq) || seq < 0 || !/^([\w-]{43}|undefined)$/.test(hash))
    throw new OrbitalError(
      'VALIDATION_ERROR',
      `${what} is ${typeof where === 'number' ? where : JSON.stringify(where)}; a position is a whole number from 0 on, or {seq, hash}`,
    );
  return { seq, ...(hash && { hash }) };
}
