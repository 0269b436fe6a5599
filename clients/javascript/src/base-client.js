/** What the two faces, OrbitalClient and OrbitalWebSocketManager, stand on. */
import { makeConnection } from './connection.js';
import { Emitter } from './emitter.js';
import { wrap } from './errors.js';
import { Http } from './http.js';
import { makeGroups } from './subscription.js';

/** @import {Connection, ConnectionOptions, ConnectionState} from './connection.js' */
/** @import {TokenSource} from './http.js' */
/** @import {RestMethods} from './rest.js' */
/** @import {Store} from './stores.js' */
/** @import {Groups} from './subscription.js' */
/** @import {Frame, Reading} from './wire.js' */

/**
 * @typedef {object} OwnOptions
 * @property {TokenSource | undefined} [token] The JWT, or a function that gives one and is called again when the last one was refused.
 *   Left out: log in by `client.api.login()` before `connect()`.
 * @property {Store | undefined} [store] Where positions and unsent drafts are kept. Left out: nothing outlives the client.
 * @property {boolean | undefined} [verify] Check the hash chain, and tell each `violation`.
 * @property {typeof globalThis.fetch | undefined} [fetch]
 */

/** @typedef {OwnOptions & ConnectionOptions} ClientOptions */

/** One server, one user, one connection. */
export class Face extends Emitter {
  /** Failed attempts in a row. */
  reconnectAttempts = 0;
  /** Failed attempts in a row after which it gives up, and tells `max_reconnect_attempts`. */
  maxReconnectAttempts = Infinity;

  /**
   * @param {string} [url] The server; in a page, its own when left out.
   * @param {ClientOptions} [options]
   */
  constructor(url, options = {}) {
    super();
    const http = new Http(url, options);
    /** @internal */
    this.http = http;
    /** @internal @type {Connection} */
    this.connection = makeConnection(this, options);
    /** @internal @type {Groups} */
    this.groups = makeGroups(this, options);
    /**
     * The REST side, with the same token. Each of its methods gives a promise, so that nobody sees that it is loaded at the first call.
     *
     * @type {RestMethods}
     */
    this.api = new Proxy(/** @type {any} */ ({}), {
      get: (_, name) =>
        // Whoever awaits `client.api` itself asks for `then`, whoever writes it down for `toJSON`.
        name === 'then' || name === 'toJSON'
          ? undefined
          : async (/** @type {unknown[]} */ ...args) => {
              const { OrbitalApi } = await import('./rest.js').catch((cause) => {
                throw wrap('NETWORK', cause);
              });
              return /** @type {any} */ (new OrbitalApi(http.url, options, http.credentials))[name](...args);
            },
    });
  }

  /** Where the connection stands. @returns {ConnectionState} */
  get state() {
    return this.connection.state;
  }

  /** Look whether the line holds, and try at once if it does not. Called for you when the page is shown or the network returns. */
  wake() {
    this.connection.wake();
  }

  // What the connection tells and asks

  /** @internal @param {ConnectionState} state */
  changed(state) {
    this.emit('state', state);
    this.emit(state.status, state);
  }

  /** @internal */
  opened() {
    this.groups.opened();
  }

  /** @internal @param {Exclude<Reading, {makes: 'bad'}>} reading @param {string} text */
  heard(reading, text) {
    if (reading.makes === 'control') this.groups.control(reading.frame);
    // An event of a group goes through its subscriptions: once, in order.
    if (reading.makes !== 'event' || !this.groups.heard(reading.frame, text)) this.handleMessage(reading.frame);
  }

  /**
   * A message came that is no event of a subscribed group: call the handlers of its type.
   *
   * @param {Frame} message
   */
  handleMessage(message) {
    this.emit(message.type, message.data, message);
  }
}
