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
 * @property {unknown} [body] Sent as JSON, unless it is FormData.
 * @property {Record<string, string | number | undefined>} [query]
 * @property {Record<string, string>} [headers]
 * @property {string | undefined} [key] The `Idempotency-Key` (1–128 visible ASCII): the same request under the same key counts once.
 * @property {AbortSignal | undefined} [signal]
 * @property {number} [timeoutMs] 0 waits for ever.
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
  async request(method, path, { body, query = {}, headers = {}, key, signal, timeoutMs = REQUEST_TIMEOUT_MS } = {}, read) {
    const search = new URLSearchParams();
    for (const [name, value] of Object.entries(query)) if (value !== undefined) search.set(name, String(value));
    const form = body instanceof FormData;
    const abort = new AbortController();
    const cancel = () => abort.abort(signal?.reason);
    if (signal?.aborted) cancel();
    signal?.addEventListener('abort', cancel);
    const timer = timeoutMs && setTimeout(() => abort.abort(new Error(`no answer within ${timeoutMs} ms`)), timeoutMs);
    try {
      for (let renewed = false; ; renewed = true) {
        const token = await this.credentials.get();
        const response = await this.#fetch(this.url + path + (`${search}` && `?${search}`), {
          method,
          signal: abort.signal,
          headers: {
            ...(token ? { Authorization: `Bearer ${token}` } : {}),
            ...(body && !form ? { 'Content-Type': 'application/json' } : {}),
            ...(key && { 'Idempotency-Key': key }),
            ...headers,
          },
          ...(body ? { body: form ? body : JSON.stringify(body) } : {}),
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

  /**
   * Make a request, and give the answer's body.
   *
   * @param {string} method
   * @param {string} path
   * @param {RequestOptions} [options]
   * @returns {Promise<any>} Undefined when there is none.
   */
  json(method, path, options) {
    return this.request(method, path, options, async (response) => {
      const text = await response.text();
      return text ? JSON.parse(text) : undefined;
    });
  }

  /** Ask for a ticket that is good for one handshake. @returns {Promise<{ticket: string, expires_in: number}>} */
  wsTicket() {
    return this.json('POST', '/api/ws-ticket');
  }

  /**
   * Events of a group as the stored texts, to the letter, so that they can be hashed.
   *
   * @param {{group_id: string, after_seq?: number, limit?: number}} query
   * @returns {Promise<string[]>}
   * @throws {OrbitalError} `GONE` with `details.oldest_seq` when some of them are no longer kept.
   */
  eventTexts(query) {
    return this.request('GET', '/v1/events', { query, headers: { Accept: 'application/x-ndjson' } }, async (response) =>
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
