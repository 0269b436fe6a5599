/** The common base of OrbitalClient and OrbitalWebSocketManager. */
import { Connection } from './connection.js';
import { Emitter } from './emitter.js';
import { wrap } from './errors.js';
import { Groups } from './groups.js';
import { Http } from './http.js';
import { parts } from './parts.js';

/** @import {ConnectionOptions, ConnectionState} from './connection.js' */
/** @import {OrbitalError} from './errors.js' */
/** @import {TokenSource} from './http.js' */
/** @import {RestMethods} from './rest.js' */
/** @import {Store} from './stores.js' */
/** @import {Frame, Reading} from './wire.js' */

/**
 * @typedef {object} OwnOptions
 * @property {TokenSource | undefined} [token] The JWT, or a function that returns one and is called again when the last one was refused, and before it ends.
 *   Left out: log in by `client.api.login()` before `connect()`.
 * @property {Store | undefined} [store] Where positions and unsent drafts are kept. Left out: nothing outlives the client.
 * @property {boolean | 'throw' | undefined} [verify] Check the hash chain, and report each `violation`; with `'throw'` it ends the subscription, too, with
 *   `CHAIN_BROKEN`.
 * @property {typeof globalThis.fetch | undefined} [fetch]
 */

/** @typedef {OwnOptions & ConnectionOptions} ClientOptions */

/** One server, one user, one connection. */
export class BaseClient extends Emitter {
  /** Failed attempts in a row. */
  reconnectAttempts = 0;
  /** Failed attempts in a row after which it stops, and emits `max_reconnect_attempts`. */
  maxReconnectAttempts = Infinity;

  /**
   * @param {string} [url] The server; in a page, its own when left out.
   * @param {ClientOptions} [options]
   * @throws {OrbitalError} `VALIDATION_ERROR` when `url` is not the address of a server, or is missing where there is no page.
   */
  constructor(url, options = {}) {
    super();
    const http = new Http(url, options);
    /** @internal */
    this.http = http;
    /** @internal */
    this.connection = new Connection(this, options);
    /** @internal */
    this.groups = new Groups(this, options);
    /** @returns {Promise<any>} */
    const rest = () =>
      parts.rest().then(
        ({ OrbitalApi }) => new OrbitalApi(http.url, options, http.credentials),
        (cause) => {
          throw wrap('NETWORK', cause);
        },
      );
    /**
     * The REST side, with the same token, loaded at the first call. Each of its methods returns a promise; those named `each…` return
     * an async iterator.
     *
     * @type {RestMethods}
     */
    this.api = new Proxy(/** @type {any} */ ({}), {
      get: (_, name) =>
        // `await client.api` looks for `then`, JSON.stringify for `toJSON`.
        name === 'then' || name === 'toJSON'
          ? undefined
          : /^each/.test(String(name))
            ? async function* (/** @type {unknown[]} */ ...args) {
                yield* (await rest())[name](...args);
              }
            : async (/** @type {unknown[]} */ ...args) => (await rest())[name](...args),
    });
  }

  /** Where the connection stands. @returns {ConnectionState} */
  get state() {
    return this.connection.state;
  }

  /**
   * Look whether the connection holds, and try at once if it does not and the rules allow. Called for you when the page is shown or the network
   * returns. What a person presses calls `connect()`.
   */
  wake() {
    this.connection.wake();
  }

  // Called by the connection

  /** @internal @param {ConnectionState} state */
  changed(state) {
    this.emit('state', state);
    this.emit(state.status, state);
  }

  /** @internal @param {OrbitalError} error It ended permanently: the server refused the token or this client, or there were too many attempts. */
  stopped(error) {
    this.emit('error', error);
  }

  /** @internal */
  opened() {
    this.groups.opened();
  }

  /** @internal @param {Exclude<Reading, {makes: 'bad'}>} reading @param {string} text */
  received(reading, text) {
    if (reading.makes === 'control') this.groups.control(reading.frame);
    // An event of a group goes through its subscriptions: once, in order.
    if (reading.makes !== 'event' || !this.groups.received(reading.frame, text)) this.handleMessage(reading.frame);
  }

  /**
   * A message came that is not an event of a subscribed group: call the handlers of its type.
   *
   * @param {Frame} message
   */
  handleMessage(message) {
    this.emit(message.type, message.data, message);
  }
}
