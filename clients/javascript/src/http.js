/** Requests that carry the token, and the two that the machine itself makes. */
import { OrbitalError, wrap } from './errors.js';

/** How long a request waits for its answer's head. Media transfers are not bound by it. */
export const REQUEST_TIMEOUT_MS = 30_000;

/**
 * The JWT, or a function that gives one: called before the first use, and again when the server refused the last one.
 *
 * @typedef {string | (() => string | Promise<string>)} TokenSource
 */

/**
 * The token that everything of one client shares. It never asks twice at the same time.
 *
 * @typedef {ReturnType<typeof makeCredentials>} Credentials
 */

/** @param {TokenSource | undefined} source */
function makeCredentials(source) {
  /** @type {string | undefined} */
  let token;
  /** @type {Promise<string> | undefined} */
  let asking;
  const ask = async () => {
    const mine = source;
    if (typeof mine !== 'function') return token;
    asking ??= Promise.resolve()
      .then(mine)
      .catch((cause) => {
        throw wrap('TOKEN', cause);
      })
      .finally(() => (asking = undefined));
    const given = await asking;
    // Another source was set meanwhile: that one's counts.
    if (source === mine) token = given;
    return token;
  };
  /** @param {TokenSource | undefined} next Replaces the token, or where it comes from. */
  const set = (next) => {
    source = next;
    asking = undefined;
    token = typeof next === 'string' ? next : undefined;
  };
  set(source);
  return {
    set,
    /** The token, if there is one. */
    get: async () => token ?? ask(),
    /** Look for another token than the refused one, and tell whether there is one now. @param {string | undefined} refused */
    renew: async (refused) => {
      if (token === refused) await ask();
      return token !== refused;
    },
  };
}

/**
 * What a request may carry.
 *
 * @typedef {object} RequestOptions
 * @property {BodyInit | undefined} [body]
 * @property {Record<string, string>} [headers]
 * @property {AbortSignal | undefined} [signal]
 * @property {number} [timeoutMs] 30,000 when left out; 0 waits for ever.
 */

/**
 * The way to a server by HTTP. A token that was refused is renewed once, when its source is a function. Nothing is tried again otherwise: the
 * outbox does that.
 */
export class Http {
  #fetch;

  /**
   * @param {string} [url] The server: `http://`, `https://`, `ws://` or `wss://`; in a page, its own server when left out.
   * @param {{token?: TokenSource | undefined, fetch?: typeof globalThis.fetch | undefined}} [options]
   * @param {Credentials} [credentials] Those of another one, to share them.
   */
  constructor(url = globalThis.location?.origin ?? '', { token, fetch } = {}, credentials = makeCredentials(token)) {
    /** Base address of the server, without a slash at its end. */
    this.url = url.replace(/^ws/, 'http').replace(/\/+$/, '');
    /** The token that requests carry. */
    this.credentials = credentials;
    // Called as a function of its own: a browser's does not work as a method.
    this.#fetch = fetch ?? ((/** @type {string} */ address, /** @type {RequestInit} */ init) => globalThis.fetch(address, init));
  }

  /**
   * Make a request.
   *
   * @template [T=Response]
   * @param {string} method
   * @param {string} path
   * @param {RequestOptions} [options]
   * @param {(response: Response) => T | Promise<T>} [read] Makes the result of an answer of status 2xx.
   * @returns {Promise<T>} What `read` made; the response as it is when there is no `read`.
   * @throws {OrbitalError}
   */
  async request(method, path, { body, headers, signal, timeoutMs = REQUEST_TIMEOUT_MS } = {}, read) {
    const signals = /** @type {AbortSignal[]} */ ([signal, timeoutMs && AbortSignal.timeout(timeoutMs)].filter(Boolean));
    try {
      for (let renewed = false; ; renewed = true) {
        const token = await this.credentials.get();
        const response = await this.#fetch(this.url + path, {
          method,
          ...(body && { body }),
          // Before Safari 17.4 two signals do not make one: the caller's own goes before the time-out.
          signal: AbortSignal.any?.(signals) ?? /** @type {any} */ (signals[0]),
          headers: { ...headers, .../** @type {any} */ (token && { Authorization: `Bearer ${token}` }) },
        });
        if (response.ok) return await (read ? read(response) : /** @type {any} */ (response));
        const error = await refusal(response);
        if (error.code !== 'UNAUTHORIZED' || renewed || !(await this.credentials.renew(token))) throw error;
      }
    } catch (cause) {
      signal?.throwIfAborted();
      throw wrap('NETWORK', cause);
    }
  }

  /** Ask for a ticket that is good for one handshake. @param {AbortSignal} [signal] @returns {Promise<{ticket: string, expires_in: number}>} */
  wsTicket(signal) {
    return this.request('POST', '/api/ws-ticket', { signal }, (response) => response.json());
  }
}

/**
 * Read the error that a response carries.
 *
 * @param {Response} response Of a status that is not 2xx.
 * @returns {Promise<OrbitalError>}
 */
async function refusal(response) {
  const { status } = response;
  // A proxy in between may answer with anything.
  const { error = `HTTP_${status}`, message = response.statusText, details = {} } = (await response.json().catch(() => null)) ?? {};
  const after = /** @type {number} */ (response.headers.get('Retry-After') ?? details.retry_after);
  return new OrbitalError(error, message, { status, details, retryAfterMs: after * 1000 || 0 });
}
