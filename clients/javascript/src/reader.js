/** One subscription of one group: every event once, in order, from the position it resumes from. */
import { Cursor } from './cursor.js';
import { OrbitalError, wrap } from './errors.js';
import { parts } from './parts.js';
import { RESET } from './reset.js';
import { MAX_WAITING, readPosition } from './subscription.js';

/** @import {Chain} from './chain.js' */
/** @import {Http} from './http.js' */
/** @import {ResetReason} from './reset.js' */
/** @import {Store} from './stores.js' */
/** @import {Position, StreamItem, SubscribeOptions, Subscription} from './subscription.js' */
/** @import {Verifier} from './verify.js' */
/** @import {Frame, Numbered} from './wire.js' */

/** @typedef {{item: StreamItem, position: Position}} Waiting */

/**
 * What a reader uses of its connection; `Groups` is one.
 *
 * @typedef {object} ReaderOwner
 * @property {{http: Http, emit: (name: any, ...values: any[]) => void, connection: {reopen: () => void}}} client
 * @property {Store | null | undefined} store
 * @property {Verifier | undefined} verifier
 * @property {(reader: Reader) => void} remove
 */

/** The machine's side of a subscription. */
export class Reader {
  /** @type {Cursor | undefined} After the last event that was received; another one after a reset. */
  cursor;
  /** The highest number that the group is known to have. */
  head = 0;
  /** @type {Waiting[]} Items for the application. */
  waiting = [];
  /** @type {[Frame & Numbered, string][]} Events that arrived too early while the log was being read. */
  held = [];
  /** Called when there is room again, and at the end. */
  wake = () => {};

  #owner;
  #options;
  #store;
  #key;
  /** @type {Chain | undefined} Only when it is to be verified. */
  #chain;
  /** @type {number | undefined} The number at which it has caught up. */
  #goal;
  #filling = false;
  /** @type {OrbitalError | undefined} */
  #error;
  #arrived = () => {};

  /** @param {ReaderOwner} owner @param {string} groupId @param {SubscribeOptions} options */
  constructor(owner, groupId, options) {
    const { store = owner.store, onEvent, onReset, onCaughtUp, onEnd } = (this.#options = options);
    this.#owner = owner;
    this.#store = store;
    this.#key = `position:${groupId}`;
    const items = this.#read();
    const calls = onEvent || onReset || onCaughtUp || onEnd;
    /** @type {Subscription} */
    this.subscription = {
      groupId,
      closed: false,
      close: () => {
        this.waiting = [];
        this.finish();
      },
      [Symbol.asyncIterator]() {
        if (calls) throw new OrbitalError('VALIDATION_ERROR', 'a subscription with callbacks cannot be iterated over');
        return items;
      },
    };
    if (calls)
      this.#call(items)
        .then(() => onEnd?.(undefined), onEnd ?? this.#report)
        .catch(this.#report);
  }

  /** @param {unknown} cause */
  #report = (cause) => this.#owner.client.emit('error', wrap('HANDLER', cause));

  // For the application

  async *#read() {
    /** @type {Waiting | undefined} With the application now. */
    let taken;
    const done = async () => {
      if (!taken) return;
      const { position } = taken;
      this.subscription.position = position;
      taken = undefined;
      try {
        await this.#store?.set(this.#key, position);
      } catch (cause) {
        this.#report(cause);
      }
    };
    try {
      for (;;) {
        taken = this.waiting.shift();
        if (this.waiting.length < MAX_WAITING / 2) this.wake();
        if (taken) {
          yield taken.item;
          await done();
        } else if (!this.subscription.closed) await new Promise((resolve) => (this.#arrived = () => resolve(0)));
        else if (this.#error) throw this.#error;
        else return;
      }
    } finally {
      // Leaving the loop finishes the item.
      await done();
      this.subscription.close();
    }
  }

  /** @param {AsyncIterable<StreamItem>} items */
  async #call(items) {
    const { onEvent, onReset, onCaughtUp } = this.#options;
    for await (const item of items) {
      try {
        await (item.type === 'reset' ? onReset : item.type === 'caught_up' ? onCaughtUp : onEvent)?.(/** @type {any} */ (item));
      } catch (cause) {
        this.#report(cause);
      }
    }
  }

  /** @param {any} item */
  #push(item) {
    this.waiting.push({ item, position: /** @type {Position} */ (this.reached()) });
    this.#arrived();
  }

  /**
   * @param {'reset' | 'caught_up'} type
   * @param {any} data
   */
  #mark(type, data) {
    const item = { type, group_id: this.subscription.groupId, data };
    this.#owner.client.emit(type, data, item);
    this.#push(item);
  }

  // The position

  /** Start at the store's position, or where the application asks. */
  async start() {
    let where;
    try {
      where = await this.#store?.get(this.#key);
    } catch (cause) {
      this.#report(cause);
    }
    const { since } = this.#options;
    if (where !== undefined && where !== null) this.#stand(readPosition(where, `the store's ${this.#key}`));
    else if (since !== undefined) this.#stand(readPosition(since, 'since'));
  }

  /** @param {Position} where */
  #stand(where) {
    const { seq, hash } = (this.subscription.position = where);
    this.#chain = this.#owner.verifier?.begin(this.subscription.groupId, seq, hash);
    return (this.cursor = new Cursor(seq));
  }

  /** @returns {Position | undefined} After what was received, whether or not the application has seen it. */
  reached() {
    return this.cursor && { seq: this.cursor.last, ...(this.#chain?.prev && { hash: this.#chain.prev }) };
  }

  #reachGoal() {
    if (this.#goal === undefined || /** @type {Cursor} */ (this.cursor).last < this.#goal) return;
    this.#mark('caught_up', { seq: this.#goal });
    this.#goal = undefined;
  }

  // From the connection

  /**
   * The group stands at `seq`.
   *
   * @param {number} seq
   * @param {boolean} recovered
   * @param {number} [from] The socket replays what follows it; left out, only what follows `seq`.
   */
  answered(seq, recovered, from = seq) {
    const { last } = (this.cursor ??= this.#stand({ seq }));
    this.#goal = seq;
    if (!recovered) {
      const before = this.reached();
      this.head = seq;
      this.reset(RESET.NOT_RECOVERED);
      if (before?.hash) void this.#owner.verifier?.judge(this, before);
      return;
    }
    this.head = Math.max(this.head, seq);
    this.#reachGoal();
    if (last < from) void this.#catchUp();
  }

  /** A numbered event arrived. @param {Frame & Numbered} frame @param {string} text */
  offer(frame, text) {
    const { seq } = frame;
    // A server of the older protocol does not report where the group stands: the first number received is where we start.
    this.cursor ??= this.#stand({ seq: seq - 1 });
    this.head = Math.max(this.head, seq);
    if (this.waiting.length < MAX_WAITING) this.accept(frame, text);
    if (this.cursor.last >= seq) return;
    if (this.held.length < MAX_WAITING) this.held.push([frame, text]);
    void this.#catchUp();
  }

  /** Accept a numbered event, if it is the next one. @param {Frame & Numbered} frame @param {string} text */
  accept(frame, text) {
    if (this.cursor?.offer(frame.seq) !== 'next') return;
    const chain = this.#chain;
    if (chain && this.#owner.verifier?.check(chain, frame, text, this)) return;
    if (chain?.prev) frame.hash = chain.prev;
    this.#push(frame);
    this.#reachGoal();
  }

  /** What follows is permanently missing: continue after `seq`, or after the head. @param {ResetReason} reason @param {number} [seq] */
  reset(reason, seq = this.head) {
    const last = this.cursor?.last;
    this.cursor = new Cursor(seq);
    if (this.#chain) this.#chain.prev = null;
    this.#goal = this.head;
    this.held = [];
    this.#mark('reset', { last, seq, reason });
    this.#reachGoal();
  }

  /** End, after what waits. @param {OrbitalError} [cause] */
  finish(cause) {
    if (this.subscription.closed) return;
    this.subscription.closed = true;
    this.#error = cause;
    this.#owner.remove(this);
    this.wake();
    this.#arrived();
  }

  /** Read the log up to the head. */
  async #catchUp() {
    if (this.#filling) return;
    this.#filling = true;
    const { client, verifier } = this.#owner;
    try {
      await (await parts.catchUp()).catchUp(this, client.http, verifier);
    } catch {
      // The part could not be loaded. A new socket replays all that is missing, too.
      client.connection.reopen();
    }
    this.held = [];
    this.#filling = false;
  }
}
