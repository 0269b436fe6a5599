/** What an application hears of a group: every event once, in order, from where it stood. */
import { Cursor } from './cursor.js';
import { OrbitalError, wrap } from './errors.js';
import { makeFrame } from './wire.js';

/** @import {Chain} from './chain.js' */
/** @import {Connection} from './connection.js' */
/** @import {Emitter} from './emitter.js' */
/** @import {Http} from './http.js' */
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
 * @property {AbortSignal | undefined} [signal] Closes the subscription.
 */

/** @typedef {{item: StreamItem, position: Position}} Waiting */

/**
 * What one place of an application hears of one group. Iterate over it, or give it callbacks.
 *
 * The position moves when an item is done with: when the callback has returned (and its promise is settled), or when the
 * loop asks for the next item. So a crash in between repeats an item, and never loses one.
 *
 * @implements {AsyncIterable<StreamItem>}
 */
export class Subscription {
  /** The group's id. */
  groupId;
  /** @type {Position | undefined} After what the application is done with. */
  position;
  /** @type {Promise<void>} Resolves when nothing more comes. */
  ended;
  /** Whether nothing more is taken in. */
  closed = false;

  /** @type {Groups} */
  #groups;
  #options;
  /** @type {Store | null | undefined} */
  #store;
  /** @type {Cursor | undefined} After the last event that was taken in. */
  #cursor;
  /** @type {Chain | undefined} Only when it is to be verified. */
  #chain;
  /** The highest number that the group is known to have. */
  #head = 0;
  /** @type {number | undefined} Tell at this number that we have caught up. */
  #goal;
  /** @type {Waiting[]} */
  #waiting = [];
  /** @type {Waiting | undefined} With the application now. */
  #taken;
  /** @type {[Frame & Numbered, string][]} Came too early while the log was being read. */
  #held = [];
  #filling = false;
  #pumping = false;
  #saving = false;
  /** @type {OrbitalError | undefined} */
  #error;
  #wakeReader = () => {};
  #wakeFiller = () => {};
  #resolveEnded = () => {};

  /**
   * Use `client.subscribe()`.
   *
   * @param {Groups} groups
   * @param {string} groupId
   * @param {SubscribeOptions} options
   */
  constructor(groups, groupId, options) {
    this.#groups = groups;
    this.groupId = groupId;
    this.#options = options;
    this.#store = options.store === undefined ? groups.store : options.store;
    this.ended = new Promise((resolve) => (this.#resolveEnded = resolve));
    options.signal?.addEventListener('abort', () => this.close());
    if (options.signal?.aborted) this.close();
  }

  // For the application

  /** Hear nothing more. What still waits is not delivered; the position stays where the application is. */
  close() {
    this.#waiting = [];
    this.finish();
  }

  /** @returns {AsyncIterator<StreamItem, void>} */
  [Symbol.asyncIterator]() {
    return {
      next: async () => {
        this.#done();
        while (!this.#waiting.length && !this.closed) await new Promise((resolve) => (this.#wakeReader = () => resolve(0)));
        const next = this.#take();
        if (next) return { done: false, value: next.item };
        if (this.#error) throw this.#error;
        return { done: true, value: undefined };
      },
      return: async () => {
        // Whoever leaves the loop is done with the item.
        this.#done();
        this.close();
        return { done: true, value: undefined };
      },
    };
  }

  // For the machine

  /** Stand where the store says, or where the application wants to start. */
  async start() {
    let since;
    try {
      since = /** @type {Position | null | undefined} */ (await this.#store?.get(this.#key));
    } catch (cause) {
      this.#report(cause);
    }
    since ??= this.#options.since;
    if (since !== undefined) this.#stand(since);
  }

  /** @returns {Position | undefined} After what was taken in, whether or not the application has seen it. */
  get reached() {
    const hash = this.#chain?.prev;
    return this.#cursor && { seq: this.#cursor.last, ...(hash && { hash }) };
  }

  /**
   * It is known where the group stands.
   *
   * @param {number} seq The group's last number.
   * @param {boolean} recovered Whether all after the position can be had.
   * @param {number} [from] The socket replays what follows this number; left out, only what follows `seq`.
   */
  answered(seq, recovered, from = seq) {
    const { last } = (this.#cursor ??= this.#stand(seq));
    if (!recovered) this.#reset(seq, 'not recovered');
    else {
      this.#head = Math.max(this.#head, seq);
      this.#goal = seq;
      this.#reachGoal();
      if (last < from) void this.#fill();
    }
  }

  /**
   * A numbered event arrived.
   *
   * @param {Frame & Numbered} frame
   * @param {string} text
   */
  offer(frame, text) {
    const { seq } = frame;
    // A server of the older protocol does not tell where the group stands: the first number heard is where we start.
    const cursor = (this.#cursor ??= this.#stand(seq - 1));
    this.#head = Math.max(this.#head, seq);
    const room = this.#waiting.length < MAX_WAITING;
    if (room && cursor.offer(seq) === 'next') this.#accept(frame, text);
    else if (cursor.last < seq) {
      if (this.#held.length < MAX_WAITING) this.#held.push([frame, text]);
      void this.#fill();
    }
  }

  /**
   * Nothing more comes, after what waits.
   *
   * @param {OrbitalError} [error]
   */
  finish(error) {
    if (this.closed) return;
    this.closed = true;
    this.#error = error;
    this.#held = [];
    this.#groups.remove(this);
    this.#wakeFiller();
    if (this.#options.onEvent) void this.#pump();
    else this.#finished();
  }

  // Taking in

  /** @param {number | Position} since */
  #stand(since) {
    this.position = typeof since === 'number' ? { seq: since } : since;
    this.#cursor = new Cursor(this.position.seq);
    const { seq, hash } = this.position;
    const { chains } = this.#groups;
    this.#chain = chains && new chains.Chain(seq ? hash : chains.firstPrev(this.groupId));
    return this.#cursor;
  }

  /**
   * @param {Frame & Numbered} frame The next one.
   * @param {string} text
   */
  #accept(frame, text) {
    const { seq, group_id } = frame;
    /** @type {Position} */
    const position = { seq };
    const { chains } = this.#groups;
    if (chains && this.#chain) {
      const expected = this.#chain.prev;
      if (!this.#chain.offer(text)) {
        this.#groups.violated({ kind: 'changed', group_id, seq, expected, found: chains.prevOf(text) });
        // Each break is told once: what follows is measured by the frame that we have.
        this.#chain.prev = chains.digest(text);
      }
      position.hash = /** @type {string} */ (this.#chain.prev);
    }
    this.#push(/** @type {any} */ (frame), position);
    this.#reachGoal();
  }

  /**
   * @param {StreamItem} item
   * @param {Position} position
   */
  #push(item, position) {
    this.#waiting.push({ item, position });
    void this.#pump();
  }

  #reachGoal() {
    const { seq, hash } = /** @type {Position} */ (this.reached);
    if (this.#goal === undefined || seq < this.#goal) return;
    this.#tell('caught_up', { seq: this.#goal }, { seq, ...(hash && { hash }) });
    this.#goal = undefined;
  }

  /**
   * @param {number} seq Go on after this number.
   * @param {string} reason
   * @param {number} [head] The highest number that the group has.
   */
  #reset(seq, reason, head = seq) {
    const last = this.reached?.seq ?? 0;
    this.#cursor = new Cursor(seq);
    if (this.#chain) this.#chain.prev = null;
    this.#head = this.#goal = head;
    this.#held = [];
    this.#tell('reset', { last, seq, reason }, { seq });
    this.#reachGoal();
  }

  /**
   * @param {'reset' | 'caught_up'} type
   * @param {any} data
   * @param {Position} position
   */
  #tell(type, data, position) {
    const item = { type, group_id: this.groupId, data };
    this.#groups.events.emit(type, data, item);
    this.#push(item, position);
  }

  /** Read the log until it has given all that is known to be there. */
  async #fill() {
    if (this.#filling) return;
    this.#filling = true;
    try {
      await (await import('./fill.js')).fill(this.#groups.http, this.groupId, {
        wanted: () => (!this.closed && /** @type {Cursor} */ (this.#cursor).last < this.#head ? this.#cursor : undefined),
        room: () => this.#waiting.length < MAX_WAITING,
        pause: (ms) => this.#pause(ms),
        offer: (frame, text) => /** @type {Cursor} */ (this.#cursor).offer(frame.seq) === 'next' && this.#accept(frame, text),
        again: () => this.#held.splice(0).forEach(([frame, text]) => this.offer(frame, text)),
        reset: (reason, seq = this.#head) => this.#reset(seq, reason, this.#head),
        finish: (error) => this.finish(error),
      });
    } catch {
      // The part could not be loaded. A new socket replays all that is missing, too.
      this.#groups.connection.reopen();
    }
    this.#held = [];
    this.#filling = false;
  }

  /** @param {number} [ms] Left out: until there is room. */
  #pause(ms) {
    return new Promise((resolve) => {
      const timer = ms && setTimeout(resolve, ms);
      this.#wakeFiller = () => {
        clearTimeout(timer);
        resolve(0);
      };
    });
  }

  // Handing out

  /** @returns {Waiting | undefined} */
  #take() {
    this.#taken = this.#waiting.shift();
    if (this.#waiting.length < MAX_WAITING / 2 && this.#filling) this.#wakeFiller();
    return this.#taken;
  }

  /** The application is done with what it took. */
  #done() {
    if (!this.#taken) return;
    this.position = this.#taken.position;
    this.#taken = undefined;
    void this.#save();
  }

  /** Keep the position; while one is being written, only the latest of those that follow. */
  async #save() {
    if (this.#saving || !this.#store) return;
    this.#saving = true;
    try {
      for (let saved; saved !== this.position; ) await this.#store.set(this.#key, (saved = this.position));
    } catch (cause) {
      this.#report(cause);
    }
    this.#saving = false;
  }

  async #pump() {
    const { onEvent, onReset, onCaughtUp } = this.#options;
    this.#wakeReader();
    if (this.#pumping || !onEvent) return;
    this.#pumping = true;
    for (let next; (next = this.#take()); this.#done()) {
      const { item } = next;
      const handler = /** @type {((item: any) => unknown) | undefined} */ (
        item.type === 'reset' ? onReset : item.type === 'caught_up' ? onCaughtUp : onEvent
      );
      try {
        const result = handler?.(item);
        if (result instanceof Promise) await result;
      } catch (cause) {
        this.#report(cause);
      }
    }
    this.#pumping = false;
    if (this.closed) this.#finished();
  }

  #finished() {
    const { onEvent, onEnd } = this.#options;
    this.#wakeReader();
    this.#resolveEnded();
    try {
      if (onEnd) onEnd(this.#error);
      else if (onEvent && this.#error) this.#report(this.#error);
    } catch (cause) {
      this.#report(cause);
    }
  }

  get #key() {
    return `position:${this.groupId}`;
  }

  /** @param {unknown} cause */
  #report(cause) {
    this.#groups.events.emit('error', wrap('HANDLER', cause));
  }
}

/**
 * One group on the socket of now.
 *
 * @typedef {object} Entry
 * @property {Set<Subscription>} subscriptions
 * @property {Position | undefined} from What `since` was asked.
 * @property {number | undefined} wire The last number that the socket is known to have passed; undefined before it is subscribed.
 */

/** All groups of one connection: who hears them, and what was asked of the server. It never keeps an event. */
export class Groups {
  /** @type {typeof import('./chain.js') | undefined} Loaded when chains are verified. */
  chains;
  /** @type {Map<string, Entry>} */
  #entries = new Map();
  /** @type {Set<string>} Asked for in one frame, at the end of the tick. */
  #asking = new Set();
  #verify;

  /**
   * @param {Connection} connection
   * @param {Http} http
   * @param {Emitter} events
   * @param {{store?: Store | undefined, verify?: boolean | undefined}} options
   */
  constructor(connection, http, events, { store, verify }) {
    this.connection = connection;
    this.http = http;
    this.events = events;
    this.store = store;
    this.#verify = verify;
  }

  /** @param {Subscription} subscription */
  async add(subscription) {
    try {
      if (this.#verify) this.chains = await import('./chain.js');
    } catch (cause) {
      // Without its rule nothing can be verified, and unverified is not what was asked for.
      return subscription.finish(wrap('NETWORK', cause));
    }
    await subscription.start();
    if (subscription.closed) return;
    const { groupId } = subscription;
    const entry = this.#entries.get(groupId);
    if (!entry) {
      this.#entries.set(groupId, { subscriptions: new Set([subscription]), from: undefined, wire: undefined });
      this.#ask([groupId]);
    } else {
      entry.subscriptions.add(subscription);
      if (entry.wire !== undefined) subscription.answered(entry.wire, true);
    }
  }

  /** @param {Subscription} subscription */
  remove(subscription) {
    const { groupId } = subscription;
    const entry = this.#entries.get(groupId);
    if (!entry?.subscriptions.delete(subscription) || entry.subscriptions.size) return;
    this.#entries.delete(groupId);
    this.connection.send(makeFrame('unsubscribe', { group_ids: [groupId] }));
  }

  /** A new socket is open: ask for every group again, each from where it stands. */
  opened() {
    for (const entry of this.#entries.values()) entry.wire = undefined;
    this.#asking.clear();
    this.#ask(this.#entries.keys());
    this.#flush();
  }

  /** End every subscription. */
  close() {
    for (const { subscriptions } of [...this.#entries.values()]) for (const subscription of [...subscriptions]) subscription.close();
  }

  /** @param {Violation} violation */
  violated(violation) {
    this.events.emit('violation', violation);
  }

  /**
   * A numbered event came over the socket.
   *
   * @param {Frame & Numbered} frame
   * @param {string} text
   * @returns {boolean} Whether somebody here hears this group.
   */
  heard(frame, text) {
    const { group_id, seq } = frame;
    const entry = this.#entries.get(group_id);
    if (!entry) return false;
    if (this.chains && entry.wire !== undefined && seq !== entry.wire + 1)
      this.violated({ kind: seq > entry.wire ? 'skipped' : 'repeated', group_id, seq, expected: entry.wire + 1, found: seq });
    entry.wire = Math.max(entry.wire ?? 0, seq);
    for (const subscription of [...entry.subscriptions]) subscription.offer(frame, text);
    return true;
  }

  /**
   * A frame of the conversation came.
   *
   * @param {Frame} frame
   */
  control({ type, data }) {
    /** @type {string[]} */
    const ids = data.group_ids ?? [];
    const entries = ids.flatMap((id) => this.#entries.get(id) ?? []);
    if (type === 'subscribed') {
      for (const entry of entries) {
        const groupId = /** @type {Subscription} */ ([...entry.subscriptions][0]).groupId;
        const { seq, recovered = true } = data.groups?.[groupId] ?? {};
        if (!Number.isSafeInteger(seq)) continue;
        const from = recovered ? entry.from?.seq : undefined;
        entry.wire = from ?? seq;
        for (const subscription of [...entry.subscriptions]) subscription.answered(seq, recovered, from);
      }
    } else if (type === 'unsubscribed' && data.reason !== 'requested') {
      for (const entry of entries)
        this.#finish(entry, data.reason === 'left' ? undefined : new OrbitalError('FORBIDDEN', 'no longer a member'));
    } else if (type === 'error') {
      const { code, message, ...details } = data;
      const error = new OrbitalError(code, message, { details });
      if (!ids.length) this.events.emit('error', error);
      else if (error.retryable) setTimeout(() => this.#ask(ids.filter((id) => this.#entries.get(id)?.wire === undefined)), RETRY_MS);
      else for (const entry of entries) this.#finish(entry, error);
    }
  }

  /**
   * @param {Entry} entry
   * @param {OrbitalError | undefined} error
   */
  #finish(entry, error) {
    for (const subscription of [...entry.subscriptions]) subscription.finish(error);
  }

  /** @param {Iterable<string>} groupIds */
  #ask(groupIds) {
    if (!this.#asking.size) queueMicrotask(() => this.#flush());
    for (const id of groupIds) this.#asking.add(id);
  }

  #flush() {
    const ids = [...this.#asking].filter((id) => this.#entries.has(id));
    this.#asking.clear();
    for (let at = 0; at < ids.length; at += GROUPS_A_FRAME) {
      const group_ids = ids.slice(at, at + GROUPS_A_FRAME);
      /** @type {Record<string, number | Position>} */
      const since = {};
      for (const id of group_ids) {
        const entry = /** @type {Entry} */ (this.#entries.get(id));
        entry.from = undefined;
        for (const { reached } of entry.subscriptions) if (reached && !(entry.from && entry.from.seq <= reached.seq)) entry.from = reached;
        if (entry.from) since[id] = entry.from.hash && entry.from.seq ? entry.from : entry.from.seq;
      }
      this.connection.ask({ group_ids, ...(Object.keys(since).length && { since }) });
    }
  }
}
