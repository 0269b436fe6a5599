/** Drafts on their way to the server: sent in order, tried until they are there, never doubled. */
import { BACKOFF, delayMs } from './backoff.js';
import { OrbitalError, wrap } from './errors.js';
import { uuid } from './uuid.js';

/** @import {Emitter} from './emitter.js' */
/** @import {MessagePosted, ReplyPosted, RestMethods, ThreadPosted} from './rest.js' */
/** @import {Store} from './stores.js' */

/** For so long the server knows an `Idempotency-Key`; after it the same draft might be taken for a new one. */
export const KEY_KEPT_MS = 24 * 3600 * 1000;

/**
 * What can be sent. `timestamp` is the time of `send()` when left out.
 *
 * @typedef {{type: 'message', encrypted_envelope: string, timestamp?: number}
 *   | {type: 'thread', encrypted_title: string, encrypted_body: string, root_message_id?: string}
 *   | {type: 'reply', thread_id: string, encrypted_body: string, message_id?: string}} Draft
 */

/**
 * The server's answer to a draft.
 *
 * @template {Draft} D
 * @typedef {D extends {type: 'message'} ? MessagePosted : D extends {type: 'thread'} ? ThreadPosted : ReplyPosted} Answer
 */

/**
 * A draft in the outbox, as it is kept in the store.
 *
 * @typedef {object} Pending
 * @property {string} key Its `Idempotency-Key`.
 * @property {string} group_id
 * @property {Draft} draft
 * @property {number} created_at Milliseconds since the Unix epoch.
 * @property {number} [tried_at] When it was first on its way.
 */

/** @typedef {Pending & {place: string, kept?: Promise<void>, resolve?: (answer: any) => void, reject?: (error: OrbitalError) => void}} Item */
/** @typedef {{items: Item[], busy: boolean, wake: () => void}} Line */

/** No five a minute here: these are requests, and the server's 429 tells when it is enough. */
const RETRY = { ...BACKOFF, spread_ms: 1000 };

/** Drafts of one millisecond keep their order, */
let count = 0;
/** and so do those between which the clock steps back: no place is before an earlier one. */
let latest = 0;

/**
 * The drafts of one client. Within a group they reach the server in the order of `send()`, one at a time; groups do not
 * wait for each other. With a store they survive a reload: the next client on that store sends them, under the same keys.
 *
 * Tells `sent` and `failed` through the client's events, also of what an earlier run left.
 */
export class Outbox {
  /** @type {Map<string, Line>} By group, oldest first. */
  #lines = new Map();
  /** @type {Promise<void> | undefined} */
  #loaded;
  #closed = false;
  #options;

  /** @param {{api: RestMethods, store?: Store | null | undefined, events: Emitter}} options */
  constructor(options) {
    this.#options = options;
  }

  /** @returns {Pending[]} What is not yet with the server. */
  pending() {
    return [...this.#lines.values()].flatMap(({ items }) => items.map(strip));
  }

  /** Read what an earlier run or another tab left, and send what waits now rather than at its next try. Called for you when the connection opens. */
  flush() {
    this.#closed = false;
    this.#loaded = this.#load(this.#loaded);
    for (const line of this.#lines.values()) {
      line.wake();
      void this.#drain(line);
    }
  }

  /**
   * Send a draft to a group.
   *
   * @template {Draft} D
   * @param {string} groupId
   * @param {D} draft
   * @param {{key?: string}} [options] `key`: its `Idempotency-Key`, if you make your own.
   * @returns {Promise<Answer<D>>} When the server has it.
   * @throws {OrbitalError} When the server will not have it, or it is too old to be tried again: the draft is dropped. With `CLOSED` it
   *   is kept in the store, if there is one.
   */
  send(groupId, draft, { key = uuid() } = {}) {
    const created_at = Date.now();
    latest = Math.max(latest, created_at);
    const place = `outbox:${String(latest).padStart(15, '0')}:${String(count++ % 1e6).padStart(6, '0')}:${key}`;
    return new Promise((resolve, reject) => {
      // What no request can carry would be tried for ever.
      if (!/^[!-~]{1,128}$/.test(key)) return reject(new OrbitalError('VALIDATION_ERROR', 'a key is 1 to 128 visible ASCII characters'));
      /** @type {Item} */
      const item = { key, group_id: groupId, draft, created_at, place, resolve, reject };
      try {
        item.draft = JSON.parse(JSON.stringify(draft));
      } catch (cause) {
        return reject(wrap('VALIDATION_ERROR', cause));
      }
      if (item.draft.type === 'message') item.draft.timestamp ??= created_at;
      if (this.#closed) return void this.#store('set', item).then(() => reject(closedFirst()));
      const line = this.#line(groupId);
      line.items.push(item);
      void this.#store('set', item);
      this.#loaded ??= this.#load();
      void this.#drain(line);
    });
  }

  /** Send nothing more. What is pending stays in the store; its promises are rejected with `CLOSED`. */
  close() {
    this.#closed = true;
    const lines = [...this.#lines.values()];
    this.#lines.clear();
    this.#loaded = undefined;
    for (const { items, wake } of lines) {
      wake();
      // Taken away: what is on its way now belongs to no line any more.
      for (const item of items.splice(0)) item.reject?.(closedFirst());
    }
  }

  /** @param {string} groupId @returns {Line} */
  #line(groupId) {
    let line = this.#lines.get(groupId);
    if (!line) this.#lines.set(groupId, (line = { items: [], busy: false, wake: () => {} }));
    return line;
  }

  /** @param {Promise<void>} [before] What was read before; the first time, what the store has is older than what this client was given. */
  async #load(before) {
    const { store, events } = this.#options;
    if (!store) return;
    await before;
    /** @type {Item[]} */
    const found = [];
    try {
      for (const place of [...(await store.keys())].sort()) {
        if (!place.startsWith('outbox:')) continue;
        try {
          const kept = /** @type {Pending | null | undefined} */ (await store.get(place));
          if (kept) found.push({ ...kept, place });
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
      const line = this.#line(group_id);
      const items = found.filter((item) => item.group_id === group_id && !line.items.some(({ place }) => place === item.place));
      line.items = before ? [...line.items, ...items] : [...items, ...line.items];
      void this.#drain(line);
    }
    latest = Math.max(latest, ...found.map(({ place }) => parseInt(place.slice(7)) || 0));
  }

  /**
   * @param {'set' | 'delete'} act
   * @param {Item} item
   */
  #store(act, item) {
    const { store, events } = this.#options;
    // One after the other: a slow store must not bring back what was deleted.
    const before = item.kept;
    const now = async () => {
      await before;
      try {
        await store?.[act](item.place, strip(item));
      } catch (cause) {
        events.emit('error', wrap('HANDLER', cause));
      }
    };
    return (item.kept = now());
  }

  /** @param {Line} line */
  async #drain(line) {
    if (line.busy) return;
    line.busy = true;
    await this.#loaded;
    let failures = 0;
    for (let item; !this.#closed && (item = line.items[0]); ) {
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
      if (line.items[0] !== item) break;
      // Without a token that holds nothing goes; after the next login the same draft does.
      if (error?.retryable || error?.status === 401) {
        const ms = delayMs(RETRY, failures++, Math.random(), error.retryAfterMs);
        await new Promise((resolve) => {
          const timer = setTimeout(resolve, ms);
          line.wake = () => {
            clearTimeout(timer);
            resolve(0);
          };
        });
        continue;
      }
      failures = 0;
      await this.#store('delete', item);
      // Whoever reads the store now may have seen it there: it is known until then.
      await this.#loaded;
      if (line.items[0] !== item) break;
      line.items.shift();
      if (error) {
        item.reject?.(error);
        events.emit('failed', { key, group_id, draft, error });
      } else {
        item.resolve?.(answer);
        events.emit('sent', { key, group_id, draft, answer });
      }
    }
    line.busy = false;
  }

  /** @param {Item} item */
  #post({ group_id, draft, key }) {
    const { api } = this.#options;
    const { type, ...body } = /** @type {any} */ (draft);
    if (type === 'message') return api.postMessage({ conversation_id: group_id, ...body }, { key });
    if (type === 'thread') return api.createThread({ group_id, ...body }, { key });
    const { thread_id, ...reply } = body;
    return api.createReply(thread_id, reply, { key });
  }
}

const closedFirst = () => new OrbitalError('CLOSED', 'the client was closed before the server had this draft');

/** @param {Item} item @returns {Pending} What is kept of it. */
const strip = ({ place, kept, resolve, reject, ...pending }) => pending;
