/** What the two faces, OrbitalClient and OrbitalWebSocketManager, stand on. */
import { Connection } from './connection.js';
import { Emitter } from './emitter.js';
import { Http } from './http.js';
import { Groups } from './subscription.js';

/** @import {ConnectionOptions, ConnectionState} from './connection.js' */
/** @import {TokenSource} from './http.js' */
/** @import {OrbitalApi} from './rest.js' */
/** @import {Store} from './stores.js' */
/** @import {Frame} from './wire.js' */

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
  /** @type {OrbitalApi} The REST side, with the same token. */
  api;

  /** @protected */
  http;
  /** @protected */
  connection;
  /** @protected */
  groups;

  /**
   * @param {string} [url] The server; in a page, its own when left out.
   * @param {ClientOptions} [options]
   */
  constructor(url, options = {}) {
    super();
    const http = (this.http = new Http(url, options));
    this.connection = new Connection(http, options, {
      state: (state) => this.changed(state),
      open: () => this.opened(),
      frame: (reading, text) => {
        if (reading.makes === 'control') this.groups.control(reading.frame);
        // An event of a group goes through its subscriptions: once, in order.
        if (reading.makes !== 'event' || !this.groups.heard(reading.frame, text)) this.handleMessage(reading.frame);
      },
      error: (error) => this.emit('error', error),
      mayRetry: (failures) => this.mayRetry(failures),
    });
    this.groups = new Groups(this.connection, http, this, options);
    /** @type {Promise<any> | undefined} */
    let rest;
    // Every method of the REST side gives a promise, so that nobody sees that it is loaded at the first call.
    this.api = new Proxy(/** @type {any} */ ({}), {
      get: (_, name) =>
        // Whoever awaits `client.api` itself asks for `then`.
        name === 'then'
          ? undefined
          : async (/** @type {unknown[]} */ ...args) => {
              rest ??= later(import('./rest.js'), () => (rest = undefined)).then(
                ({ OrbitalApi }) => new OrbitalApi(http.url, { ...options, token: http.credentials }),
              );
              return (await rest)[name](...args);
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

  // What a face does in its own way

  /** @protected @param {ConnectionState} state */
  changed(state) {
    this.emit('state', state);
  }

  /** @protected */
  opened() {
    this.groups.opened();
  }

  /** @protected @param {number} failures @returns {boolean} */
  mayRetry(failures) {
    return failures >= 0;
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

/**
 * Load a part; one that could not be loaded is loaded anew the next time.
 *
 * @template T
 * @param {Promise<T>} part
 * @param {() => void} forget
 * @returns {Promise<T>}
 */
export function later(part, forget) {
  part.catch(forget);
  return part;
}
