/** What an application receives of a group: every event once, in order, from where it stood. */
import { Cursor } from './cursor.js';
import { OrbitalError, wrap } from './errors.js';
import { parts } from './parts.js';
import { RESET } from './reset.js';

/** @import {Chain} from './chain.js' */
/** @import {ResetReason} from './reset.js' */
/** @import {Store} from './stores.js' */
/** @import {Groups} from './subscription.js' */
/** @import {Frame, Numbered, OrbitalEvent} from './wire.js' */

/** Events that wait for a slow application. Beyond it they stay in the server's log, and are read from there when there is room again. */
export const MAX_WAITING = 1000;

/**
 * Where a reader stands: after which number, and with which hash of that frame when it is known.
 *
 * @typedef {{seq: number, hash?: string}} Position
 */

/**
 * Some events between two that you receive are missing for good: they are no longer kept, or the server's log is another one than
 * before. What you made of the group's events may be wrong: fetch it again. Events go on after `data.seq`.
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
 * - `skipped`: the socket went past a number; it was fetched from the log, if it is there.
 * - `repeated`: the socket went back, or sent a number twice.
 * - `withheld`: the server said that the next events are no longer there, and its log has them.
 * - `left`: the server ended the subscription as of somebody who left, without the `member_left` that must stand before.
 *
 * @typedef {{kind: 'changed' | 'skipped' | 'repeated' | 'withheld' | 'left', group_id: string, seq: number, expected: string | number | null, found: string | number | null}} Violation
 */

/** @typedef {OrbitalEvent | Reset | CaughtUp} StreamItem */

/**
 * @typedef {object} SubscribeOptions
 * @property {number | Position | undefined} [since] Where to start when the store has no position: after this number; 0 is from the group's
 *   first event. Left out: with what comes from now on.
 * @property {Store | null | undefined} [store] Where the position is kept, instead of the client's; null keeps none.
 * @property {((event: OrbitalEvent) => unknown) | undefined} [onEvent] Called with each event, one after the other: a promise that it returns is awaited.
 * @property {((reset: Reset) => unknown) | undefined} [onReset]
 * @property {((caughtUp: CaughtUp) => unknown) | undefined} [onCaughtUp]
 * @property {((error: OrbitalError | undefined) => unknown) | undefined} [onEnd] Nothing more comes: with an error when the server refused or removed us, or this client; without when it was closed.
 */

/**
 * What one place of an application receives of one group. Iterate over it, or give callbacks; not both.
 *
 * The position moves when an item is done with: when the callback has returned (and its promise is settled), or when the
 * loop asks for the next item. So a crash in between repeats an item, and never loses one.
 *
 * @typedef {object} SubscriptionMembers
 * @property {string} groupId
 * @property {Position} [position] After what the application is done with.
 * @property {boolean} closed Whether nothing more is taken in.
 * @property {() => void} close Receive nothing more. What still waits is not delivered; the position stays where the application is.
 */

/** @typedef {SubscriptionMembers & AsyncIterable<StreamItem, void>} Subscription */

/** @typedef {{item: StreamItem, position: Position}} Waiting */

/**
 * Read a position that an application or its store gave.
 *
 * @param {unknown} where
 * @param {string} what Stands in the error.
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

/**
 * The machine's side of a subscription.
 *
 * @typedef {object} Reader
 * @property {Subscription} subscription
 * @property {Cursor} [cursor] After the last event that was taken in; another one after a reset.
 * @property {number} head The highest number that the group is known to have.
 * @property {Waiting[]} waiting
 * @property {[Frame & Numbered, string][]} held Came too early while the log was being read.
 * @property {() => void} wake There is room again, or the end.
 * @property {() => Promise<void>} start Stand where the store says, or where the application wants to start.
 * @property {() => Position | undefined} reached After what was taken in, whether or not the application has seen it.
 * @property {(seq: number, recovered: boolean, from?: number) => void} answered The group stands at `seq`, the socket replays what follows
 *   `from`; left out, only what follows `seq`.
 * @property {(frame: Frame & Numbered, text: string) => void} offer A numbered event arrived.
 * @property {(frame: Frame & Numbered, text: string) => void} accept Take a numbered event in, if it is the next one.
 * @property {(reason: ResetReason, seq?: number) => void} reset What follows is gone: go on after `seq`, or after the head.
 * @property {(error?: OrbitalError) => void} finish Nothing more comes, after what waits.
 */

/**
 * @param {Groups} groups
 * @param {string} groupId
 * @param {SubscribeOptions} options
 * @returns {Reader}
 */
export function makeReader(groups, groupId, { since, store = groups.store, onEvent, onReset, onCaughtUp, onEnd }) {
  const { face } = groups;
  const calls = onEvent || onReset || onCaughtUp || onEnd;
  const key = `position:${groupId}`;
  /** @type {Chain | undefined} Only when it is to be verified. */
  let chain;
  /** @type {number | undefined} The number at which we have caught up. */
  let goal;
  let filling = false;
  /** @type {OrbitalError | undefined} */
  let error;
  let arrived = () => {};

  /** @param {unknown} cause */
  const report = (cause) => face.emit('error', wrap('HANDLER', cause));

  async function* read() {
    /** @type {Waiting | undefined} With the application now. */
    let taken;
    const done = async () => {
      if (!taken) return;
      const { position } = taken;
      subscription.position = position;
      taken = undefined;
      try {
        await store?.set(key, position);
      } catch (cause) {
        report(cause);
      }
    };
    try {
      for (;;) {
        taken = reader.waiting.shift();
        if (reader.waiting.length < MAX_WAITING / 2) reader.wake();
        if (taken) {
          yield taken.item;
          await done();
        } else if (!subscription.closed) await new Promise((resolve) => (arrived = () => resolve(0)));
        else if (error) throw error;
        else return;
      }
    } finally {
      // Leaving the loop finishes the item.
      await done();
      subscription.close();
    }
  }

  /** @type {Subscription} */
  const subscription = {
    groupId,
    closed: false,
    close() {
      reader.waiting = [];
      reader.finish();
    },
    [Symbol.asyncIterator]() {
      if (calls)
        throw new OrbitalError('VALIDATION_ERROR', 'a subscription with callbacks cannot be iterated over, too: give one or the other');
      return items;
    },
  };

  /** @param {Position} where */
  const stand = (where) => {
    const { seq, hash } = (subscription.position = where);
    chain = groups.chains?.begin(groupId, seq, hash);
    return (reader.cursor = new Cursor(seq));
  };

  /**
   * @param {any} item
   */
  const push = (item) => {
    reader.waiting.push({ item, position: /** @type {Position} */ (reader.reached()) });
    arrived();
  };

  /**
   * @param {'reset' | 'caught_up'} type
   * @param {any} data
   */
  const mark = (type, data) => {
    const item = { type, group_id: groupId, data };
    face.emit(type, data, item);
    push(item);
  };

  const reachGoal = () => {
    if (goal === undefined || /** @type {Cursor} */ (reader.cursor).last < goal) return;
    mark('caught_up', { seq: goal });
    goal = undefined;
  };

  /** Read the log until it has given all that is known to be there. */
  const fill = async () => {
    if (filling) return;
    filling = true;
    try {
      await (await parts.fill()).fill(reader, groups);
    } catch {
      // The part could not be loaded. A new socket replays all that is missing, too.
      face.connection.reopen();
    }
    reader.held = [];
    filling = false;
  };

  /** @type {Reader} */
  const reader = {
    subscription,
    head: 0,
    waiting: [],
    held: [],
    wake() {},
    async start() {
      let where;
      try {
        where = await store?.get(key);
      } catch (cause) {
        report(cause);
      }
      if (where !== undefined && where !== null) stand(readPosition(where, `the store's ${key}`));
      else if (since !== undefined) stand(readPosition(since, 'since'));
    },
    reached: () => reader.cursor && { seq: reader.cursor.last, ...(chain?.prev && { hash: chain.prev }) },
    answered(seq, recovered, from = seq) {
      const { last } = (reader.cursor ??= stand({ seq }));
      goal = seq;
      if (!recovered) {
        const before = reader.reached();
        reader.head = seq;
        reader.reset(RESET.NOT_RECOVERED);
        if (before?.hash) void groups.judge(reader, before);
        return;
      }
      reader.head = Math.max(reader.head, seq);
      reachGoal();
      if (last < from) void fill();
    },
    offer(frame, text) {
      const { seq } = frame;
      // A server of the older protocol does not say where the group stands: the first number received is where we start.
      reader.cursor ??= stand({ seq: seq - 1 });
      reader.head = Math.max(reader.head, seq);
      if (reader.waiting.length < MAX_WAITING) reader.accept(frame, text);
      if (reader.cursor.last >= seq) return;
      if (reader.held.length < MAX_WAITING) reader.held.push([frame, text]);
      void fill();
    },
    accept(frame, text) {
      if (reader.cursor?.offer(frame.seq) !== 'next') return;
      const violation = chain && groups.chains?.check(chain, frame, text);
      if (violation && groups.accuse(violation, [reader])) return;
      if (chain?.prev) frame.hash = chain.prev;
      push(frame);
      reachGoal();
    },
    reset(reason, seq = reader.head) {
      const last = reader.cursor?.last;
      reader.cursor = new Cursor(seq);
      if (chain) chain.prev = null;
      goal = reader.head;
      reader.held = [];
      mark('reset', { last, seq, reason });
      reachGoal();
    },
    finish(cause) {
      if (subscription.closed) return;
      subscription.closed = true;
      error = cause;
      groups.remove(reader);
      reader.wake();
      arrived();
    },
  };

  const items = read();

  const call = async () => {
    for await (const item of items) {
      try {
        await (item.type === 'reset' ? onReset : item.type === 'caught_up' ? onCaughtUp : onEvent)?.(/** @type {any} */ (item));
      } catch (cause) {
        report(cause);
      }
    }
  };
  if (calls)
    call()
      .then(() => onEnd?.(undefined), onEnd ?? report)
      .catch(report);

  return reader;
}
