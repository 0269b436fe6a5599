/** The modern face: subscriptions, sending, typing, media and the REST side on one connection. */
import { wrap } from './errors.js';
import { Face } from './base-client.js';
import { makeTyping } from './typing.js';

/** @import {TokenSource} from './http.js' */
/** @import {DownloadOptions, Downloaded, UploadOptions, Uploaded} from './media.js' */
/** @import {Answer, Draft, Outbox, Pending} from './outbox.js' */
/** @import {SubscribeOptions, Subscription} from './subscription.js' */
/** @import {Frame} from './wire.js' */

/**
 * A client of one server, for one user.
 *
 * It keeps one connection, comes back by itself, and hands every event of a group to each subscription once and in order.
 * It never looks into what is encrypted.
 */
export class OrbitalClient extends Face {
  #typing = makeTyping((frame) => this.connection.send(frame));
  /** @type {Promise<Outbox> | undefined} */
  #outbox;

  /** Use another token, or another source of tokens, from here on. @param {TokenSource} token */
  setToken(token) {
    this.http.credentials.set(token);
  }

  /** Connect and stay connected; `subscribe()` does it for you. Drafts that an earlier run left in the store are sent. */
  connect() {
    if (this.groups.store || this.#outbox) this.#flush();
    this.connection.open();
  }

  /**
   * Close, and stay closed until `connect()`. Subscriptions end; pending drafts stay in the store.
   *
   * @param {number} [code] 1000, or 3000 to 4999.
   * @param {string} [reason]
   */
  close(code, reason) {
    this.#typing();
    this.groups.close();
    this.#outbox?.then((outbox) => outbox.close(), () => {});
    this.connection.close(code, reason);
  }

  /**
   * Hear a group: every event once, in order, from `since` or from where this client's store says that you stand, and then what comes.
   * Iterate over the answer, or give callbacks.
   *
   * @param {string} groupId
   * @param {SubscribeOptions} [options]
   * @returns {Subscription}
   */
  subscribe(groupId, options = {}) {
    this.connect();
    return this.groups.subscribe(groupId, options);
  }

  /**
   * Send a message, thread or reply. Within a group they reach the server in the order of the calls. It is tried until the server has it, under
   * one `Idempotency-Key`, so that it is there once; with a store it survives a reload, and the next run sends it. `sent` and
   * `failed` tell what became of each, also of those that an earlier run left.
   *
   * @template {Draft} D
   * @param {string} groupId
   * @param {D} draft
   * @param {{key?: string}} [options] `key`: its `Idempotency-Key`, if you make your own.
   * @returns {Promise<Answer<D>>} When the server has it.
   * @throws {OrbitalError} When the server will not have it, or it is too old to be tried again: the draft is dropped. With `CLOSED` it
   *   is kept in the store, if there is one.
   */
  send(groupId, draft, options) {
    // Whoever does not look hears of a failure by the event: it is no reason to end a process.
    const sending = this.#load().then((outbox) => outbox.send(groupId, draft, options));
    sending.catch(() => {});
    return sending;
  }

  /** What is not yet with the server, oldest first within a group. @returns {Promise<Pending[]>} */
  async pending() {
    return (await this.#load()).pending();
  }

  /**
   * Tell the group that you write in a thread. Call it at each key; it is sent every 3 s at most, and stops by itself.
   *
   * @param {string} threadId
   * @param {boolean} [isTyping] False stops at once.
   */
  typing(threadId, isTyping = true) {
    this.#typing(threadId, isTyping);
  }

  /**
   * Upload an encrypted medium.
   *
   * @param {UploadOptions} options
   * @returns {Promise<Uploaded>}
   */
  async uploadMedia(options) {
    return (await import('./media.js')).uploadMedia(this.http, options);
  }

  /**
   * Download an encrypted medium.
   *
   * @param {string} mediaId
   * @param {DownloadOptions} [options]
   * @returns {Promise<Downloaded>}
   */
  async downloadMedia(mediaId, options) {
    return (await import('./media.js')).downloadMedia(this.http, mediaId, options);
  }

  /** @internal @override */
  opened() {
    super.opened();
    this.#flush();
  }

  /** @param {Frame} message @override */
  handleMessage(message) {
    // An error of the conversation was told as such, and an event of a group that nobody hears any more came late.
    if (message.type !== 'error' && !message.seq) super.handleMessage(message);
  }

  /** Let the outbox send now. Loaded while there is a network, it is there when there is none. */
  #flush() {
    this.#load().then((outbox) => outbox.flush(), () => {});
  }

  #load() {
    const { api, groups } = this;
    return (this.#outbox ??= import('./outbox.js').then(
      ({ Outbox }) => new Outbox({ api, store: groups.store, events: this }),
      (cause) => {
        // What could not be loaded is loaded anew the next time.
        this.#outbox = undefined;
        throw wrap('NETWORK', cause);
      },
    ));
  }
}
