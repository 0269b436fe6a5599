/** OrbitalClient: subscriptions, sending, typing, media and the REST side on one connection. */
import { BACKOFF, delayMs } from './backoff.js';
import { BaseClient } from './base-client.js';
import { closedFirst, keep, makeItem, strip } from './draft.js';
import { OrbitalError, wrap } from './errors.js';
import { parts } from './parts.js';
import { after } from './timers.js';
import { makeTyping } from './typing.js';

/** @import {Draft, Item, Pending} from './draft.js' */
/** @import {ConnectionState} from './connection.js' */
/** @import {TokenSource} from './http.js' */
/** @import {DownloadOptions, Downloaded, UploadOptions, Uploaded} from './media.js' */
/** @import {Answer, Outbox} from './outbox.js' */
/** @import {SubscribeOptions, Subscription} from './subscription.js' */
/** @import {Frame} from './wire.js' */

/**
 * A client of one server, for one user.
 *
 * It keeps one connection, reconnects automatically, and delivers every event of a group to each subscription once and in order.
 * It never looks into what is encrypted.
 */
export class OrbitalClient extends BaseClient {
  #typing = makeTyping((frame) => this.connection.send(frame));
  /** @type {Promise<Outbox> | undefined} */
  #outbox;
  /** @type {Outbox | undefined} The same, once it is there. */
  #box;
  /** @type {Item[]} Drafts that came before the outbox. */
  #early = [];
  /** @type {any} Until the outbox is loaded again. */
  #again;

  /** Use another token, or another source of tokens, from here on. @param {TokenSource} token */
  setToken(token) {
    this.http.credentials.set(token);
  }

  /**
   * Connect and stay connected; `subscribe()` does it for you. Drafts that an earlier run left in the store are sent. Called while an attempt
   * waits, it begins at once, at most one a second.
   */
  connect() {
    this.#begin();
    this.connection.connect();
  }

  /**
   * Connect, and wait until the connection is open.
   *
   * @returns {Promise<void>}
   * @throws {OrbitalError} `UNAUTHORIZED` when the server refused the token or this client, `CLOSED` when it was closed or stopped trying.
   */
  async ready() {
    this.#begin();
    this.connection.open();
    if (this.state.status === 'open') return;
    /** @type {ConnectionState} */
    const { status, code, reason } = await new Promise((resolve) => {
      const off = this.on('state', (state) => {
        if (state.status === 'connecting') return;
        off();
        resolve(state);
      });
    });
    if (status === 'closed') throw new OrbitalError(code === 1008 ? 'UNAUTHORIZED' : 'CLOSED', reason || 'the client was closed');
  }

  #begin() {
    if (this.groups.store || this.#outbox) this.#flush();
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
    if (this.#box) this.#box.close();
    else
      this.#outbox?.then(
        (outbox) => outbox.close(),
        () => {},
      );
    clearTimeout(this.#again);
    for (const item of this.#early.splice(0)) item.kept?.then(() => item.reject?.(closedFirst()));
    this.connection.close(code, reason);
  }

  /**
   * Receive a group's events: each once, in order, from `since` or from where this client's store says that you stand, and then what comes.
   * Iterate over the answer, or give callbacks.
   *
   * @param {string} groupId
   * @param {SubscribeOptions} [options]
   * @returns {Subscription}
   * @throws {OrbitalError} `VALIDATION_ERROR` when `since` is not a position. What the server refuses, the loop throws, or `onEnd` gets.
   */
  subscribe(groupId, options = {}) {
    const subscription = this.groups.subscribe(groupId, options);
    this.#begin();
    this.connection.open();
    return subscription;
  }

  /**
   * Send a message, thread or reply. Within a group they reach the server in the order of the calls. It is tried until the server has it, under
   * one `Idempotency-Key`, so that it is there once; with a store it is kept before anything else, survives a reload, and the next run sends it.
   * `sent` and `failed` report what became of each, also of those that an earlier run left.
   *
   * @template {Draft} D
   * @param {string} groupId
   * @param {D} draft
   * @param {{key?: string}} [options] `key`: its `Idempotency-Key`, if you make your own.
   * @returns {Promise<Answer<D>>} When the server has it.
   * @throws {OrbitalError} When the server will not have it, or it is too old to be tried again: the draft is dropped. With `CLOSED` it
   *   is kept in the store, if there is one.
   */
  send(groupId, draft, { key } = {}) {
    const sending = new Promise((resolve, reject) => {
      const item = Object.assign(makeItem(groupId, draft, key), { resolve, reject });
      void keep(this.groups.store, this, 'set', item);
      if (this.#box) return this.#box.add(item);
      this.#early.push(item);
      this.#load().catch(() => {});
    });
    // The `failed` event reports a failure, too: a promise that nobody looks at is no reason to end a process.
    sending.catch(() => {});
    return sending;
  }

  /** What is not yet with the server, oldest first within a group. @returns {Promise<Pending[]>} */
  async pending() {
    const outbox = await this.#load().catch(() => undefined);
    return outbox?.pending() ?? this.#early.map(strip);
  }

  /**
   * Take back a draft that is not yet with the server; its promise is rejected with `DISCARDED`.
   *
   * @param {string} key As in `pending()`.
   * @returns {Promise<boolean>} False when it is not there. One that is in flight now may reach the server all the same.
   */
  async discard(key) {
    return (await this.#load()).discard(key);
  }

  /**
   * Send a typing indicator to the group of a thread. Call it at each key; it is sent every 3 s at most, and stops automatically.
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
    return (await this.#media()).uploadMedia(this.http, options);
  }

  /**
   * Download an encrypted medium.
   *
   * @param {string} mediaId
   * @param {DownloadOptions} [options]
   * @returns {Promise<Downloaded>}
   */
  async downloadMedia(mediaId, options) {
    return (await this.#media()).downloadMedia(this.http, mediaId, options);
  }

  #media() {
    return parts.media().catch((cause) => {
      throw wrap('NETWORK', cause);
    });
  }

  /** @internal @override @param {OrbitalError} error */
  stopped(error) {
    super.stopped(error);
    this.groups.close(error);
  }

  /** @internal @override */
  opened() {
    super.opened();
    this.#flush();
  }

  /** @param {Frame} message @override */
  handleMessage(message) {
    // An error of the conversation was emitted as `error`, and an event of a group without a subscription came late.
    if (message.type !== 'error' && !message.seq) super.handleMessage(message);
  }

  /** Let the outbox send now. Loaded while there is a network, it is there when there is none. */
  #flush() {
    if (this.#box) this.#box.flush();
    else
      this.#load().then(
        (outbox) => outbox.flush(),
        () => {},
      );
  }

  /** @returns {Promise<Outbox>} */
  #load(failures = 0) {
    const { api, groups } = this;
    clearTimeout(this.#again);
    return (this.#outbox ??= parts.outbox().then(
      ({ Outbox }) => {
        const outbox = (this.#box = new Outbox({ api, store: groups.store, events: this }));
        for (const item of this.#early.splice(0)) outbox.add(item);
        return outbox;
      },
      (cause) => {
        this.#outbox = undefined;
        // Drafts wait for it, as they wait for the server.
        if (this.#early.length)
          this.#again = after(delayMs(BACKOFF, failures, Math.random()), () => this.#load(failures + 1).catch(() => {}));
        throw wrap('NETWORK', cause);
      },
    ));
  }
}
