/** The outbox of the page: unsent texts, waiting or refused by the server. */
import { open } from '../crypto/envelope.js';

/** @import {Draft} from './cipher-outbox.js' */
/** @import {Shelf} from './shelf.js' */
/** @import {Waiting} from './types.js' */

/**
 * @typedef {object} Refused As it is stored: sealed, with the reason.
 * @property {string} key
 * @property {string} group_id
 * @property {any} draft
 * @property {number} at_ms
 * @property {string} error
 */

/**
 * @typedef {object} Sender What is used of the SDK.
 * @property {(groupId: string, draft: any, options: {key: string}) => Promise<unknown>} send
 * @property {() => Promise<{key: string, group_id: string, draft: any, created_at: number}[]>} pending
 */

/** @param {{code?: string, message: string}} error @returns {string} */
const reasonOf = ({ code, message }) =>
  code === 'STALE' ? 'It waited for more than a day and may have been sent already. Check the thread before you send it again.' : message;

/**
 * The member's unsent texts. A refused text stays until it is sent again or discarded, across
 * reloads, tabs and days. It never deletes a text by itself.
 */
export class Outbox {
  /** @type {{sendAgain: (groupId: string, key: string) => Promise<void>, discard: (groupId: string, key: string) => Promise<void>} | undefined} Keeps the drafts of groups of version 2. */
  keeper;
  /** @type {Waiting[]} Oldest first. */
  waiting = [];
  #client;
  #shelf;
  #keyOf;
  #changed;

  /**
   * @param {Sender} client
   * @param {Shelf} shelf Where refused ones are kept.
   * @param {(groupId: string) => Promise<CryptoKey | undefined>} keyOf
   * @param {() => void} changed
   */
  constructor(client, shelf, keyOf, changed) {
    this.#client = client;
    this.#shelf = shelf;
    this.#keyOf = keyOf;
    this.#changed = changed;
  }

  /** The number of texts or photos that are not sent yet. */
  get toSend() {
    return this.waiting.filter(({ error }) => error === undefined).length;
  }

  /** Restore the unsent texts of an earlier run. */
  async restore() {
    await this.reread();
    const found = (await this.#client.pending()).filter(({ draft }) => draft.type !== 'message');
    /** @type {string[]} */
    const restored = [];
    for (const { key, group_id, draft, created_at } of found) {
      if (this.#find(key)) continue;
      restored.push(key);
      this.#insert(await this.#opened(key, group_id, draft, created_at));
    }
    // A text that was sent while it was decrypted is already in its thread.
    const left = new Set((await this.#client.pending()).map(({ key }) => key));
    this.waiting = this.waiting.filter(({ key, error }) => error !== undefined || left.has(key) || !restored.includes(key));
    this.#changed();
  }

  /** Reload the refused texts from storage: another tab may have added, resent or discarded one. */
  async reread() {
    const stored = this.#refused();
    this.waiting = this.waiting.filter(
      ({ key, error, draft }) => draft === null || error === undefined || stored.some((one) => one.key === key),
    );
    for (const { key, group_id, draft, at_ms, error } of stored) {
      const had = this.#find(key);
      if (had) had.error = error;
      else this.#insert({ ...(await this.#opened(key, group_id, draft, at_ms)), error });
    }
    this.#changed();
  }

  /**
   * @param {string} groupId
   * @param {any} draft Sealed, as the SDK sends it.
   * @param {{threadId: string | undefined, title: string | null, body: string | null}} shown
   * @returns {string} Its key.
   */
  send(groupId, draft, { threadId, title, body }) {
    const key = crypto.randomUUID();
    this.waiting.push({ key, groupId, threadId, title, body, atMs: Date.now(), draft });
    // The outcome is reported by `sent` and `failed`, also after a reload.
    this.#client.send(groupId, draft, { key }).catch(() => {});
    this.#changed();
    return key;
  }

  /** Send a refused text again. @param {Waiting} waiting */
  resend({ key, groupId, draft, threadId, title, body }) {
    if (draft === null) return void this.keeper?.sendAgain(groupId, key);
    this.discard(key);
    this.send(groupId, draft, { threadId, title, body });
  }

  /** @param {string} key */
  discard(key) {
    const found = this.#find(key);
    if (found?.draft === null) void this.keeper?.discard(found.groupId, key);
    this.#forget(key);
  }

  /** Show what is not sent yet in a group of version 2. @param {string} groupId @param {Draft[]} drafts */
  show(groupId, drafts) {
    this.waiting = this.waiting.filter((one) => one.draft !== null || one.groupId !== groupId);
    for (const { id, type, plain, texts, atMs, posted, refused } of drafts) {
      if (posted || type === 'media_uploaded') continue;
      const [first = null, second = null] = texts;
      const shown =
        type === 'new_thread'
          ? { threadId: undefined, title: first, body: second }
          : { threadId: plain.thread_id, title: null, body: first };
      this.#insert({ key: id, groupId, ...shown, atMs, draft: null, ...(refused !== undefined && { error: refused }) });
    }
    this.#changed();
  }

  /** @param {string} key */
  #forget(key) {
    this.waiting = this.waiting.filter((one) => one.key !== key);
    this.#store(this.#refused().filter((one) => one.key !== key));
    this.#changed();
  }

  /**
   * The server refused a draft, of this run or of an earlier one.
   *
   * @param {{key: string, group_id: string, draft: any, error: {code: string, message: string}}} failure
   */
  async failed({ key, group_id, draft, error }) {
    if (draft.type === 'message') return;
    const reason = reasonOf(error);
    const at_ms = this.#find(key)?.atMs ?? Date.now();
    // Stored first, so that no later error loses the text.
    this.#store([...this.#refused().filter((one) => one.key !== key), { key, group_id, draft, at_ms, error: reason }]);
    const had = this.#find(key);
    if (had) had.error = reason;
    else this.#insert({ ...(await this.#opened(key, group_id, draft, at_ms)), error: reason });
    this.#changed();
  }

  /** The server acknowledged a text. @param {string} key @returns {Waiting | undefined} The text. */
  sent(key) {
    const found = this.#find(key);
    if (found) this.#forget(key);
    return found;
  }

  /** An event brought this ciphertext: a nonce is used once, so equal ciphertext is the same writing. @param {string} sealed */
  arrived(sealed) {
    const found = this.waiting.find(({ draft }) => draft?.encrypted_body === sealed);
    if (found) this.#forget(found.key);
  }

  /** @param {string} key */
  #find(key) {
    return this.waiting.find((one) => one.key === key);
  }

  /** @param {Waiting} made */
  #insert(made) {
    if (this.#find(made.key)) return;
    this.waiting = [...this.waiting, made].sort((a, b) => a.atMs - b.atMs);
  }

  /**
   * @param {string} key
   * @param {string} groupId
   * @param {any} draft
   * @param {number} atMs
   * @returns {Promise<Waiting>}
   */
  async #opened(key, groupId, draft, atMs) {
    // The list of groups may not be loaded; the key is on this device.
    const groupKey = await this.#keyOf(groupId);
    const threadId = draft.type === 'reply' ? draft.thread_id : undefined;
    const title = draft.type === 'thread' ? await open(groupKey, groupId, 'thread-title', draft.encrypted_title) : null;
    const body = await open(groupKey, groupId, threadId ? `reply/${threadId}` : 'thread-body', draft.encrypted_body);
    return { key, groupId, threadId, title, body, atMs, draft };
  }

  /** @returns {Refused[]} */
  #refused() {
    const stored = this.#shelf.read();
    return Array.isArray(stored) ? stored.filter((one) => typeof one?.key === 'string' && typeof one.draft === 'object') : [];
  }

  /** @param {Refused[]} refused */
  #store(refused) {
    if (refused.length) this.#shelf.write(refused);
    else this.#shelf.delete();
  }
}
