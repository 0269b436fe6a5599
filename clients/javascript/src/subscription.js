/** What an application hears of a group: every event once, in order, from where it stood. */
import { Cursor } from './cursor.js';
import { OrbitalError, wrap } from './errors.js';
import { makeFrame } from './wire.js';

/** @import {Chain} from './chain.js' */
/** @import {Face} from './base-client.js' */
/** @import {Store} from './stores.js' */
/** @import {Frame, Numbered, OrbitalEvent} from './wire.js' */

/** Events that wait for a slow application. Beyond it they stay in the server's log, and are read from there when there is room again. */
export const MAX_WAITING = 1000;
/** Groups in one `subscribe` frame: with position and hash 180 bytes each, far below the 64 KiB of a frame. */
const GROUPS_A_FRAME = 200;
/** Before groups are asked for again that the server could not look at. */
const RETRY_MS = 2000;

/**
 * Where a reader stands: after which number, and with which hash of that frame when it is known.
 *
 * @typedef {{seq: number, hash?: string}} Position
 */

/**
 * Some events between two that you hear are missing for good: they are no longer kept, or the server's log is another one than
 * before. What you made of the group's events may be wrong: fetch it anew. Events go on after `data.seq`.
 *
 * @typedef {{type: 'reset', group_id: string, data: {last: number, seq: number, reason: string}}} Reset
 */

/**
 * Everything up to `data.seq`, the group's last number when the connection was made, has been heard; what follows is live.
 *
 * @typedef {{type: 'caught_up', group_id: string, data: {seq: number}}} CaughtUp
 */

/**
 * The proof that a server dropped, changed or re-ordered something.
 *
 * - `changed`: the frame's `prev` is not the hash of the frame before it.
 * - `skipped`: the socket went past a number; it was fetched from the log, if it is there.
 * - `repeated`: the socket went back, or sent a number twice.
 *
 * @typedef {{kind: 'changed' | 'skipped' | 'repeated', group_id: string, seq: number, expected: string | number | null, found: string | number | null}} Violation
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
 * @property {((error: OrbitalError | undefined) => unknown) | undefined} [onEnd] Nothing more comes: with an error when the server refused or removed us, without when it was closed.
 */

/**
 * What one place of an application hears of one group. Iterate over it, or give callbacks.
 *
 * The position moves when an item is done with: when the callback has returned (and its promise is settled), or when the
 * loop asks for the next item. So a crash in between repeats an item, and never loses one.
 *
 * @typedef {object} SubscriptionMembers
 * @property {string} groupId
 * @property {Position} [position] After what the application is done with.
 * @property {boolean} closed Whether nothing more is taken in.
 * @property {() => void} close Hear nothing more. What still waits is not delivered; the position stays where the application is.
 */

/** @typedef {SubscriptionMembers & AsyncIterable<StreamItem, void>} Subscription */

/** @typedef {{item: StreamItem, position: Position}} Waiting */

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
 * @property {(reason: string, seq?: number) => void} reset What follows is gone: go on after `seq`, or after the head.
 * @property {(error?: OrbitalError) => void} finish Nothing more comes, after what waits.
 */

/**
 * @param {Groups} groups
 * @param {string} groupId
 * @param {SubscribeOptions} options
 * @returns {Reader}
 */
function makeReader(groups, groupId, { since, store = groups.store, onEvent, onReset, onCaughtUp, onEnd }) {
  const { face } = groups;
  const key = `position:${groupId}`;
  /** @type {Chain | undefined} Only when it is to be verified. */
  let chain;
  /** @type {number | undefined} Tell at this number that we have caught up. */
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
      // Whoever leaves the loop is done with the item.
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
    [Symbol.asyncIterator]: () => items,
  };

  /** @param {number | Position} where */
  const stand = (where) => {
    const { seq, hash } = (subscription.position = typeof where === 'number' ? { seq: where } : where);
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
  const tell = (type, data) => {
    const item = { type, group_id: groupId, data };
    face.emit(type, data, item);
    push(item);
  };

  const reachGoal = () => {
    if (goal === undefined || /** @type {Cursor} */ (reader.cursor).last < goal) return;
    tell('caught_up', { seq: goal });
    goal = undefined;
  };

  /** Read the log until it has given all that is known to be there. */
  const fill = async () => {
    if (filling) return;
    filling = true;
    try {
      await (await import('./fill.js')).fill(reader, face.http);
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
        where = /** @type {Position | null | undefined} */ (await store?.get(key));
      } catch (cause) {
        report(cause);
      }
      where ??= since;
      if (where !== undefined) stand(where);
    },
    reached: () => reader.cursor && { seq: reader.cursor.last, ...(chain?.prev && { hash: chain.prev }) },
    answered(seq, recovered, from = seq) {
      const { last } = (reader.cursor ??= stand(seq));
      goal = seq;
      if (!recovered) {
        reader.head = seq;
        return reader.reset('not recovered');
      }
      reader.head = Math.max(reader.head, seq);
      reachGoal();
      if (last < from) void fill();
    },
    offer(frame, text) {
      const { seq } = frame;
      // A server of the older protocol does not tell where the group stands: the first number heard is where we start.
      reader.cursor ??= stand(seq - 1);
      reader.head = Math.max(reader.head, seq);
      if (reader.waiting.length < MAX_WAITING) reader.accept(frame, text);
      if (reader.cursor.last >= seq) return;
      if (reader.held.length < MAX_WAITING) reader.held.push([frame, text]);
      void fill();
    },
    accept(frame, text) {
      if (reader.cursor?.offer(frame.seq) !== 'next') return;
      if (chain) groups.chains?.check(chain, frame, text, face);
      push(frame);
      reachGoal();
    },
    reset(reason, seq = reader.head) {
      const last = reader.cursor?.last;
      reader.cursor = new Cursor(seq);
      if (chain) chain.prev = null;
      goal = reader.head;
      reader.held = [];
      tell('reset', { last, seq, reason });
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
  if (onEvent) call().then(() => onEnd?.(undefined), onEnd ?? report).catch(report);

  return reader;
}

/**
 * One group on the socket of now.
 *
 * @typedef {object} Entry
 * @property {Set<Reader>} readers
 * @property {boolean} asked
 * @property {Position | undefined} [from] What `since` was asked.
 * @property {number | undefined} [wire] The last number that the socket is known to have passed; undefined before it is subscribed.
 */

/**
 * All groups of one connection: who hears them, and what was asked of the server. It never keeps an event.
 *
 * @typedef {object} Groups
 * @property {Face} face
 * @property {Store | null | undefined} store
 * @property {typeof import('./chain.js')} [chains] Loaded when chains are to be verified.
 * @property {(groupId: string, options: SubscribeOptions) => Subscription} subscribe Hear a group.
 * @property {(reader: Reader) => void} remove
 * @property {() => void} opened A new socket is open: ask for every group again, each from where it stands.
 * @property {() => void} close End every subscription.
 * @property {(frame: Frame & Numbered, text: string) => boolean} heard A numbered event came over the socket; tells whether somebody here hears its group.
 * @property {(frame: Frame) => void} control A frame of the conversation came.
 */

/**
 * @param {Face} face
 * @param {{store?: Store | null | undefined, verify?: boolean | undefined}} options
 * @returns {Groups}
 */
export function makeGroups(face, { store, verify }) {
  const { connection } = face;
  /** @type {Map<string, Entry>} */
  const entries = new Map();
  /** How often everything was closed. */
  let closings = 0;

  /** Ask for what was not asked for on this socket; called at the end of a tick, so that many make one frame. */
  const ask = () => {
    const ids = [...entries.keys()].filter((id) => !entries.get(id)?.asked);
    for (let at = 0; at < ids.length; at += GROUPS_A_FRAME) {
      const group_ids = ids.slice(at, at + GROUPS_A_FRAME);
      /** @type {Record<string, number | Position> | undefined} */
      let since;
      for (const id of group_ids) {
        const entry = /** @type {Entry} */ (entries.get(id));
        const [from] = [...entry.readers].flatMap((reader) => reader.reached() ?? []).sort((a, b) => a.seq - b.seq);
        entry.asked = true;
        entry.from = from;
        if (from) (since ??= {})[id] = from.hash && from.seq ? from : from.seq;
      }
      connection.ask({ group_ids, since });
    }
  };

  /** @param {Reader} reader */
  const add = async (reader) => {
    const before = closings;
    try {
      if (verify) groups.chains = await import('./chain.js');
    } catch (cause) {
      // Without its rule nothing can be verified, and unverified is not what was asked for.
      return reader.finish(wrap('NETWORK', cause));
    }
    await reader.start();
    const { groupId, closed } = reader.subscription;
    if (closed) return;
    // Closed while its position was looked up.
    if (before !== closings) return reader.finish();
    let entry = entries.get(groupId);
    if (!entry) entries.set(groupId, (entry = { readers: new Set(), asked: false }));
    entry.readers.add(reader);
    if (entry.wire !== undefined) reader.answered(entry.wire, true);
    queueMicrotask(ask);
  };

  /** @type {Groups} */
  const groups = {
    face,
    store,
    subscribe(groupId, options) {
      const reader = makeReader(groups, groupId, options);
      void add(reader);
      return reader.subscription;
    },
    remove(reader) {
      const { groupId } = reader.subscription;
      const entry = entries.get(groupId);
      if (!entry?.readers.delete(reader) || entry.readers.size) return;
      entries.delete(groupId);
      connection.send(makeFrame('unsubscribe', { group_ids: [groupId] }));
    },
    opened() {
      for (const entry of entries.values()) {
        entry.wire = undefined;
        entry.asked = false;
      }
      ask();
    },
    close() {
      closings++;
      for (const { readers } of entries.values()) for (const { subscription } of readers) subscription.close();
    },
    heard(frame, text) {
      const { group_id, seq } = frame;
      const entry = entries.get(group_id);
      if (!entry) return false;
      const expected = (entry.wire ?? seq - 1) + 1;
      if (seq !== expected) groups.chains?.misplaced(face, group_id, seq, expected);
      entry.wire = Math.max(expected - 1, seq);
      for (const { offer } of [...entry.readers]) offer(frame, text);
      return true;
    },
    control({ type, data }) {
      const { code, message, reason, group_ids = [] } = data;
      const error = type === 'error' ? new OrbitalError(code, message, { details: data }) : undefined;
      if (error && !group_ids.length) face.emit('error', error);
      for (const id of group_ids) {
        const entry = entries.get(id);
        if (!entry) continue;
        const readers = [...entry.readers];
        // A server of the older protocol does not tell where a group stands.
        const { seq, recovered = true } = data['groups']?.[id] ?? {};
        if (seq !== undefined) {
          const from = recovered ? entry.from?.seq : undefined;
          entry.wire = from ?? seq;
          for (const reader of readers) reader.answered(seq, recovered, from);
        } else if (error?.retryable) {
          entry.asked = false;
          setTimeout(ask, RETRY_MS);
        } else if (error) for (const reader of readers) reader.finish(error);
        else if (/left|removed/.test(reason))
          for (const reader of readers) reader.finish(reason === 'left' ? undefined : new OrbitalError('FORBIDDEN', 'no longer a member'));
      }
    },
  };

  return groups;
}
