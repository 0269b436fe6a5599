/** The outbox (send queue, offline queue): drafts are sent in order, retried with the same idempotency key, and stored once. */
import { BACKOFF, delayMs } from './backoff.js';
import { closedFirst, keep, notBefore, strip } from './draft.js';
import { OrbitalError, wrap } from './errors.js';
import { after } from './timers.js';

/** @import {Draft, Item, Pending} from './draft.js' */
/** @import {Emitter} from './emitter.js' */
/** @import {MessagePosted, ReplyPosted, RestMethods, ThreadPosted} from './rest.js' */
/** @import {Store} from './stores.js' */

/** For so long the server knows an `Idempotency-Key`; after it the same draft might be taken for a new one. */
export const KEY_KEPT_MS = 24 * 3600 * 1000;

/**
 * The server's answer to a draft.
 *
 * @template {Draft} D
 * @typedef {D extends {type: 'message'} ? MessagePosted : D extends {type: 'thread'} ? ThreadPosted : ReplyPosted} Answer
 */

/** @typedef {{items: Item[], busy: boolean, wake: () => void}} Lane */

/** No five a minute here: these are requests, and the server's 429 says when it is enough. */
const RETRY = { ...BACKOFF, jitter_ms: 1000 };

/**
 * The drafts of one client. Within a group they reach the server in the order of `send()`, one at a time; groups do not
 * wait for each other. With a store they survive a reload: the next client on that store sends them, under the same keys.
 *
 * Emits `sent` and `failed` through the client, also for what an earlier run left.
 */
export class Outbox {
  /** @type {Map<string, Lane>} By group, oldest first. */
  #lanes = new Map();
  /** @type {Promise<void> | undefined} */
  #loaded;
  #closed = false;
  #options;

  /** @param {{api: RestMethods, store?: Store | null | undefined, events: Emitter}} options */
  constructor(options) {
    this.#options = options;
  }

  /** @returns {Promise<Pending[]>} What is not yet with the server, with what an earlier run left in the store. */
  async pending() {
    this.#loaded ??= this.#load();
    await this.#loaded;
    return [...this.#lanes.values()].flatMap(({ items }) => items.map(strip));
  }

  /** Read what an earlier run or another tab left, and send what waits now rather than at its next try. Called for you when the connection opens. */
  flush() {
    this.#closed = false;
    this.#loaded = this.#load(this.#loaded);
    for (const lane of this.#lanes.values()) {
      lane.wake();
      void this.#drain(lane);
    }
  }

  /**
   * Take a draft that is in the store already, and send it.
   *
   * @param {Item} item Its promise is settled when the server has it, will not have it, or the outbox was closed first.
   */
  add(item) {
    if (this.#closed) return void item.kept?.then(() => item.reject?.(closedFirst()));
    const lane = this.#lane(item.group_id);
    lane.items.push(item);
    this.#loaded ??= this.#load();
    void this.#drain(lane);
  }

  /**
   * Take a draft back.
   *
   * @param {string} key
   * @returns {Promise<boolean>} Whether it was waiting; one that is in flight now may reach the server all the same.
   */
  async discard(key) {
    await this.#loaded;
    for (const lane of this.#lanes.values()) {
      const item = lane.items.find((one) => one.key === key);
      if (!item) continue;
      await this.#store('delete', item);
      lane.items = lane.items.filter((one) => one !== item);
      item.reject?.(new OrbitalError('DISCARDED', 'the draft was taken back'));
      lane.wake();
      return true;
    }
    return false;
  }

  /** Send nothing more. What is pending stays in the store; its promises are rejected with `CLOSED`. */
  close() {
    this.#closed = true;
    const lanes = [...this.#lanes.values()];
    this.#lanes.clear();
    this.#loaded = undefined;
    for (const { items, wake } of lanes) {
      wake();
      // What is in flight now belongs to no lane any more.
      for (const item of items.splice(0)) item.reject?.(closedFirst());
    }
  }

  /** @param {string} groupId @returns {Lane} */
  #lane(groupId) {
    let lane = this.#lanes.get(groupId);
    if (!lane) this.#lanes.set(groupId, (lane = { items: [], busy: false, wake: () => {} }));
    return lane;
  }

  /** @param {Promise<void>} [before] What was read before; the first time, what the store has is older than what this client was given. */
  async #load(before) {
    const { store, events } = this.#options;
    if (!store) return;
    await before;
    /** @type {Item[]} */
    const found = [];
    try {
      for (const storeKey of [...(await store.keys())].sort()) {
        if (!storeKey.startsWith('outbox:')) continue;
        try {
          const kept = /** @type {Pending | null | undefined} */ (await store.get(storeKey));
          if (kept) found.push({ ...kept, storeKey });
        } catch (cause) {
          events.emit('error', wrap('HANDLER', cause));
        }
      }
    } catch (cause) {
      events.emit('error', wrap('HANDLER', cause));
    }
    // The store has them for the next connect().
    if (this.#closed) return;
    for (const group_id of new Set(found.map((item) => item.group_id))) {
      const lane = this.#lane(group_id);
      const items = found.filter((item) => item.group_id === group_id && !lane.items.some(({ storeKey }) => storeKey === item.storeKey));
      lane.items = before ? [...lane.items, ...items] : [...items, ...lane.items];
      void this.#drain(lane);
    }
    for (const { storeKey } of found) notBefore(storeKey);
  }

  /**
   * @param {'set' | 'delete'} act
   * @param {Item} item
   */
  #store(act, item) {
    const { store, events } = this.#options;
    return keep(store, events, act, item);
  }

  /** @param {Lane} lane */
  async #drain(lane) {
    if (lane.busy) return;
    lane.busy = true;
    await this.#loaded;
    let failures = 0;
    for (let item; !this.#closed && (item = lane.items[0]); ) {
      const { key, group_id, draft, tried_at } = item;
      const { events } = this.#options;
      /** @type {unknown} */
      let answer;
      /** @type {OrbitalError | undefined} */
      let error;
      try {
        if (tried_at && Date.now() - tried_at > KEY_KEPT_MS)
          throw new OrbitalError('STALE', 'the server may have this draft since more than a day: look there before you send it again');
        if (!tried_at) {
          item.tried_at = Date.now();
          await this.#store('set', item);
        }
        answer = await this.#post(item);
      } catch (cause) {
        error = wrap('NETWORK', cause);
      }
      if (lane.items[0] !== item) continue;
      // Without a token that holds nothing goes; after the next login the same draft does.
      if (error?.retryable || error?.code === 'UNAUTHORIZED') {
        const ms = delayMs(RETRY, failures++, Math.random(), error.retryAfterMs);
        await new Promise((resolve) => {
          const timer = after(ms, () => resolve(0));
          lane.wake = () => {
            clearTimeout(timer);
            resolve(0);
          };
        });
        continue;
      }
      failures = 0;
      await this.#store('delete', item);
      // A read of the store that is in progress may have seen it there: it is known until that has ended.
      await this.#loaded;
      if (lane.items[0] !== item) continue;
      lane.items.shift();
      if (error) {
        item.reject?.(error);
        events.emit('failed', { key, group_id, draft, error });
      } else {
        item.resolve?.(answer);
        events.emit('sent', { key, group_id, draft, answer });
      }
    }
    lane.busy = false;
  }

  /** @param {Item} item */
  #post({ group_id, draft, key }) {
    const { api } = this.#options;
    const { type, ...body } = /** @type {any} */ (draft);
    if (type === 'message') return api.postMessage({ conversation_id: group_id, ...body }, { key });
    if (type === 'thread') return api.createThread({ group_id, ...body }, { key });
    if (type !== 'reply') throw new OrbitalError('VALIDATION_ERROR', 'a draft is of type message, thread or reply');
    const { thread_id, ...reply } = body;
    return api.createReply(thread_id, reply, { key });
  }
}
