/** The published class OrbitalWebSocketManager: code that was written for it runs on this one unchanged. */
import { BaseClient } from './base-client.js';

/** @import {ClientOptions} from './base-client.js' */
/** @import {TokenSource} from './http.js' */
/** @import {Subscription} from './subscription.js' */

/** Messages that wait for a connection. */
export const MAX_UNSENT = 256;

/**
 * A WebSocket connection with handlers by event type.
 *
 * What comes while it is away is asked for again and arrives in order, once. Beside the types of frames it emits: `state`, and each by its status (`connecting`, `open`, `closed`),
 * `reset`, `caught_up`, `error` (an OrbitalError), `unsent` (messages that will not be sent), `max_reconnect_attempts`.
 */
export class OrbitalWebSocketManager extends BaseClient {
  /** @override */
  maxReconnectAttempts = 10;
  /** @type {string[]} */
  subscribedGroups = [];

  #token;
  /** @type {Map<string, Subscription>} */
  #subscriptions = new Map();
  /** @type {object[]} */
  #unsent = [];

  /**
   * @param {string} apiUrl `ws://` or `wss://` (or `http…`), without `/ws`.
   * @param {TokenSource} token
   * @param {ClientOptions} [options]
   */
  constructor(apiUrl, token, options) {
    super(apiUrl, { ...options, token });
    this.apiUrl = apiUrl;
    this.#token = token;
  }

  /** The socket of now, or null. */
  get ws() {
    return this.connection.socket;
  }

  /** The token, or the function that gives one. */
  get token() {
    return this.#token;
  }
  set token(token) {
    this.#token = token;
    this.http.credentials.set(token);
  }

  /** Shortest waits, in milliseconds, after 0, 1, 2, … failures in a row; the last one stands for all that follow. */
  get reconnectDelays() {
    return this.connection.rule.steps_ms;
  }
  set reconnectDelays(steps_ms) {
    this.connection.rule.steps_ms = steps_ms;
  }

  /** Connect, and stay connected until `close()`. Called while an attempt waits, it begins at once, at most one a second. */
  connect() {
    this.connection.connect();
  }

  /** Drop the socket of now, if there is one, and connect as soon as the rules allow. */
  reconnect() {
    this.connection.reopen();
  }

  /** Close, and stay closed until `connect()`. What was not sent is emitted as `unsent`. */
  close() {
    this.connection.close();
    const unsent = this.#unsent.splice(0);
    if (unsent.length) this.emit('unsent', unsent);
  }

  /**
   * Receive these groups' events from now on, and across reconnections without a hole.
   *
   * @param {string[]} groupIds
   */
  subscribe(groupIds) {
    this.subscribedGroups = [...new Set([...this.subscribedGroups, ...groupIds])];
    for (const id of groupIds) {
      if (this.#subscriptions.has(id)) continue;
      const subscription = this.groups.subscribe(id, {
        onEvent: (event) => this.handleMessage(event),
        onEnd: (error) => {
          if (this.#subscriptions.get(id) === subscription) this.unsubscribe([id]);
          if (error) this.emit('error', error);
        },
      });
      this.#subscriptions.set(id, subscription);
    }
  }

  /** @param {string[]} groupIds */
  unsubscribe(groupIds) {
    this.subscribedGroups = this.subscribedGroups.filter((id) => !groupIds.includes(id));
    for (const id of groupIds) {
      const subscription = this.#subscriptions.get(id);
      this.#subscriptions.delete(id);
      subscription?.close();
    }
  }

  /** Ask for every group again, each from where it stands. Called for you when a connection opens. */
  resubscribeToGroups() {
    this.groups.opened();
  }

  /**
   * Send a message; one that cannot go now goes when the connection opens.
   *
   * @param {object} message Its `timestamp` is set.
   * @returns {boolean} Whether it went out now.
   */
  send(message) {
    if (this.connection.send({ ...message, timestamp: Date.now() })) return true;
    if (this.#unsent.length < MAX_UNSENT) this.#unsent.push(message);
    else this.emit('unsent', [message]);
    return false;
  }

  /** @internal @override */
  opened() {
    this.resubscribeToGroups();
    for (const message of this.#unsent.splice(0)) this.send(message);
  }
}
