/** Requests that carry the token, and the two that the machine itself makes. */
import { OrbitalError, wrap } from './errors.js';

/** How long a request waits for its answer's head. Media transfers are not bound by it. */
export const REQUEST_TIMEOUT_MS = 30_000;

/**
 * The JWT, or a function that gives one: called before the first use, and again when the server refused the last one.
 *
 * @typedef {string | (() => string | Promise<string>)} TokenSource
 */

/** The token that everything of one client shares. It never asks twice at the same time. */
export class Credentials {
  /** @type {TokenSource | undefined} */
  #source;
  /** @type {string | undefined} */
  #token;
  /** @type {Promise<string> | undefined} */
  #asking;

  /** @param {TokenSource} [source] */
  constructor(source) {
    this.set(source);
  }

  /** @param {TokenSource | undefined} source Replaces the token, or where it comes from. */
  set(source) {
    this.#source = source;
    this.#token = typeof source === 'string' ? source : undefined;
  }

  /** @returns {Promise<string | undefined>} The token, if there is one. */
  async get() {
    return this.#token ?? this.#ask();
  }

  /**
   * Look for another token than the refused one.
   *
   * @param {string | undefined} refused
   * @returns {Promise<boolean>} Whether there is another one now.
   */
  async renew(refused) {
    if (this.#token === refused) await this.#ask();
    return this.#token !== refused;
  }

  /** @returns {Promise<string | undefined>} */
  async #ask() {
    const source = this.#source;
    if (typeof source !== 'function') return this.#token;
    this.#asking ??= Promise.resolve()
      .then(source)
      .catch((cause) => Promise.reject(wrap('TOKEN', cause)))
      .finally(() => (this.#asking = undefined));
    return (this.#token = await this.#asking);
  }
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
  /** Base address of the server, without a slash at its end. */
  url;
  /** The token that requests carry. */
  credentials;
  #fetch;

  /**
   * @param {string} [url] The server: `http://`, `https://`, `ws://` or `wss://`; in a page, its own server when left out.
   * @param {object} [options]
   * @param {TokenSource | Credentials | undefined} [options.token]
   * @param {typeof globalThis.fetch | undefined} [options.fetch]
   */
  constructor(url = globalThis.location?.origin ?? '', { token, fetch = (...args) => globalThis.fetch(...args) } = {}) {
    this.url = url.replace(/^ws/, 'http').replace(/\/+$/, '');
    this.credentials = token instanceof Credentials ? token : new Credentials(token);
    this.#fetch = fetch;
  }

  /**
   * Make a request.
   *
   * @template [T=Response]
   * @param {string} method
   * @param {string} path
   * @param {RequestOptions} [options]
   * @param {(response: Response) => T | Promise<T>} [read] Makes the result of an answer of status 2xx; the time-out holds until it is through.
   * @returns {Promise<T>} What `read` made; the response as it is when there is no `read`.
   * @throws {OrbitalError}
   */
  async request(method, path, { body, headers, signal, timeoutMs = REQUEST_TIMEOUT_MS } = {}, read) {
    const abort = new AbortController();
    const cancel = () => abort.abort(signal?.reason);
    if (signal?.aborted) cancel();
    signal?.addEventListener('abort', cancel);
    const timer = timeoutMs && setTimeout(() => abort.abort(new Error(`no answer within ${timeoutMs} ms`)), timeoutMs);
    try {
      for (let renewed = false; ; renewed = true) {
        const token = await this.credentials.get();
        const response = await this.#fetch(this.url + path, {
          method,
          body: body ?? null,
          signal: abort.signal,
          headers: { ...headers, ...(token ? { Authorization: `Bearer ${token}` } : {}) },
        });
        if (response.ok) return await (read ? read(response) : /** @type {any} */ (response));
        const error = await refusal(response);
        if (error.code !== 'UNAUTHORIZED' || renewed || !(await this.credentials.renew(token))) throw error;
      }
    } catch (cause) {
      signal?.throwIfAborted();
      throw wrap('NETWORK', cause);
    } finally {
      clearTimeout(timer);
      // Without `read` the caller reads the body, still under its own signal.
      if (read) signal?.removeEventListener('abort', cancel);
    }
  }

  /** Ask for a ticket that is good for one handshake. @returns {Promise<{ticket: string, expires_in: number}>} */
  wsTicket() {
    return this.request('POST', '/api/ws-ticket', {}, (response) => response.json());
  }

  /**
   * Events of a group as the stored texts, to the letter, so that they can be hashed.
   *
   * @param {string} groupId
   * @param {number} [afterSeq]
   * @param {number} [limit]
   * @returns {Promise<string[]>}
   * @throws {OrbitalError} `GONE` with `details.oldest_seq` when some of them are no longer kept.
   */
  eventTexts(groupId, afterSeq = 0, limit = 1000) {
    const path = `/v1/events?group_id=${encodeURIComponent(groupId)}&after_seq=${afterSeq}&limit=${limit}`;
    return this.request('GET', path, { headers: { Accept: 'application/x-ndjson' } }, async (response) =>
      (await response.text()).split('\n').filter(Boolean),
    );
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
  /** @type {any} A proxy in between may answer with anything. */
  const body = await response.json().catch(() => null);
  const after = Number(response.headers.get('Retry-After') ?? body?.details?.retry_after);
  return new OrbitalError(body?.error ?? `HTTP_${status}`, body?.message ?? response.statusText, {
    status,
    details: body?.details ?? {},
    retryAfterMs: after > 0 ? after * 1000 : 0,
  });
}
