/** HTTP requests with the token, and the connection's own request for a ticket. */
import { OrbitalError, wrap } from './errors.js';
import { after } from './timers.js';

/** How long a request waits for its whole answer. Media transfers have a watchdog of their own instead. */
export const REQUEST_TIMEOUT_MS = 30_000;
/** How long a token function may take. */
export const TOKEN_TIMEOUT_MS = 30_000;
/** The most that an answer may be, decompressed: a page of the log is 8 MiB at most, and grows past it only by one stamp's messages. */
export const MAX_ANSWER_BYTES = 32 * 1024 * 1024;
/** The most that is read of a refusal: the server's are below 1 KiB. */
const MAX_REFUSAL_BYTES = 64 * 1024;
/** The longest `Retry-After` that is obeyed: in a page a person waits, elsewhere a machine. */
const MAX_RETRY_AFTER_MS = { page: 300_000, machine: 3_600_000 };

/**
 * The JWT, or a function that returns one: called before the first use, again when the server refused the last one, and before it ends.
 *
 * @typedef {string | (() => string | null | undefined | Promise<string | null | undefined>)} TokenSource
 */

/**
 * The token that everything of one client shares. It never asks twice at the same time.
 *
 * @typedef {ReturnType<typeof makeCredentials>} Credentials
 */

/** @param {TokenSource | undefined} source */
function makeCredentials(source) {
  /** @type {string | null | undefined} */
  let token;
  /** @type {Promise<string | null | undefined> | undefined} */
  let asking;
  const ask = async () => {
    const mine = source;
    if (typeof mine !== 'function') return token;
    asking ??= inTime(Promise.resolve().then(mine))
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
    /** Look for another token than the refused one, and return whether there is one now. @param {string | null | undefined} refused */
    renew: async (refused) => {
      if (token === refused) await ask();
      return token !== refused;
    },
  };
}

/**
 * @template T
 * @param {Promise<T>} promise
 * @returns {Promise<T>}
 */
const inTime = (promise) =>
  new Promise((resolve, reject) => {
    const timer = after(TOKEN_TIMEOUT_MS, () => reject(Error(`the token function returned nothing for ${TOKEN_TIMEOUT_MS / 1000} s`)));
    promise.then(resolve, reject).finally(() => clearTimeout(timer));
  });

/**
 * What a request may carry.
 *
 * @typedef {object} RequestOptions
 * @property {BodyInit | undefined} [body]
 * @property {Record<string, string>} [headers]
 * @property {AbortSignal | undefined} [signal]
 * @property {boolean | undefined} [keepalive] Let the request go on when the page is closed.
 * @property {number} [timeoutMs] 30,000 when left out; 0 leaves it to `signal`.
 */

/**
 * The way to a server by HTTP. A token that was refused is renewed once, when its source is a function. Nothing is tried again otherwise: the
 * outbox does that. Only an answer with the server's own error body is the server's decision: any other is `HTTP_…`, and may be tried again.
 */
export class Http {
  #fetch;

  /**
   * @param {string} [url] The server: `http://`, `https://`, `ws://` or `wss://`; in a page, its own server when left out.
   * @param {{token?: TokenSource | undefined, fetch?: typeof globalThis.fetch | undefined}} [options]
   * @param {Credentials} [credentials] Those of another one, to share them.
   * @throws {OrbitalError} `VALIDATION_ERROR` when it is not such an address, or is missing where there is no page.
   */
  constructor(url = globalThis.location?.origin, { token, fetch } = {}, credentials = makeCredentials(token)) {
    /** Base address of the server, without a slash at its end. */
    this.url = baseOf(url);
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
  async request(method, path, { body, headers, signal, keepalive, timeoutMs = REQUEST_TIMEOUT_MS } = {}, read) {
    const abort = new AbortController();
    const stop = () => abort.abort(signal?.reason);
    const timer =
      timeoutMs && after(timeoutMs, () => abort.abort(new OrbitalError('NETWORK', `timeout: no answer in ${timeoutMs / 1000} s`)));
    if (signal?.aborted) stop();
    signal?.addEventListener('abort', stop);
    try {
      for (let renewed = false; ; renewed = true) {
        const token = await this.credentials.get();
        const response = await this.#fetch(this.url + path, {
          method,
          ...(body && { body }),
          // The Fetch standard takes undefined for absent; its types do not.
          keepalive: /** @type {boolean} */ (keepalive),
          // A server of ours does not redirect: a portal does, and a POST would arrive there as a GET.
          redirect: 'manual',
          signal: abort.signal,
          headers: { ...headers, .../** @type {any} */ (token && { Authorization: `Bearer ${token}` }) },
        });
        if (response.ok) {
          if (read) return await read(response);
          // The caller reads the body, and may stop it until its end.
          return /** @type {any} */ (response);
        }
        const error = await refusal(response);
        if (error.code !== 'UNAUTHORIZED' || renewed || !(await this.credentials.renew(token))) throw error;
      }
    } catch (cause) {
      signal?.throwIfAborted();
      throw wrap('NETWORK', abort.signal.aborted ? abort.signal.reason : cause);
    } finally {
      clearTimeout(timer);
      if (read) signal?.removeEventListener('abort', stop);
    }
  }

  /** Ask for a ticket that is good for one handshake. @param {AbortSignal} [signal] @returns {Promise<{ticket: string, expires_in: number}>} */
  wsTicket(signal) {
    return this.request('POST', '/api/ws-ticket', { signal }, (response) => readJson(response, 'ticket'));
  }
}

/**
 * Read the address of a server as people write it: of its socket or of its HTTP side, perhaps with a path before them.
 *
 * @param {string} url
 * @returns {string} `http:` or `https:`, without a slash at the end.
 * @throws {OrbitalError} `VALIDATION_ERROR`, also when it carries a user, a query or a fragment: it is another address then.
 */
function baseOf(url) {
  try {
    // What does not match becomes `httpundefined`, which is no URL.
    return new URL('http' + /^(?:http|ws)(s?:\/\/[^?#@]+?)(?:\/ws|\/v1\/websocket)?\/*$/i.exec(url)?.[1]).href.replace(/\/+$/, '');
  } catch {
    throw new OrbitalError('VALIDATION_ERROR', `${JSON.stringify(url)} is not the address of a server, like http://localhost`);
  }
}

/**
 * Read an answer's text, up to a limit: what is small on the wire may be large once it is decompressed.
 *
 * @param {Response} response
 * @param {number} [limit] Bytes.
 * @returns {Promise<string>}
 * @throws {OrbitalError} `NETWORK` when it is longer; the rest is not read.
 */
export async function readText({ body }, limit = MAX_ANSWER_BYTES) {
  const decoder = new TextDecoder();
  let text = '';
  const reader = body?.getReader();
  try {
    for (let size = 0, next; reader && !(next = await reader.read()).done; text += decoder.decode(next.value, { stream: true }))
      if ((size += next.value.length) > limit) throw new OrbitalError('NETWORK', `the answer is longer than ${limit} bytes`);
  } finally {
    reader?.cancel().catch(() => {});
  }
  return text + decoder.decode();
}

/**
 * Read the JSON of an answer of status 2xx.
 *
 * @param {Response} response
 * @param {string} [key] What the server's answer has; left out, the server's has no body.
 * @returns {Promise<any>} Undefined without `key`.
 * @throws {OrbitalError} `HTTP_200` and such when it is not the server's, as a portal's page.
 */
export async function readJson(response, key) {
  const text = await readText(response);
  if (!key && !text) return;
  const answer = parse(text);
  if (!key || answer[key] === undefined) throw foreign(response);
  return answer;
}

/**
 * Make the error for an answer that is not the server's own.
 *
 * @param {Response} response
 * @param {number} [retryAfterMs]
 */
export const foreign = ({ status, statusText }, retryAfterMs = 0) =>
  new OrbitalError(
    `HTTP_${status || 'REDIRECT'}`,
    `the answer (${status || 'a redirect'} ${statusText}) is not from an Orbital server: a proxy or a portal is in between, or the address is wrong`,
    { retryAfterMs, details: { status } },
  );

/**
 * Read the error that a response carries.
 *
 * @param {Response} response Of a status that is not 2xx.
 * @returns {Promise<OrbitalError>}
 */
async function refusal(response) {
  const { error, message, details } = parse(await readText(response, MAX_REFUSAL_BYTES).catch(() => ''));
  const ours = /^[A-Z][A-Z_]*$/.test(error) && typeof message === 'string' && details && typeof details === 'object';
  const retryAfterMs = waitMs(response.headers.get('Retry-After') ?? details?.retry_after);
  if (!ours) return foreign(response, retryAfterMs);
  return new OrbitalError(error, message, { status: response.status, details, retryAfterMs });
}

/** @param {string} text @returns {any} An object; an empty one when the text is not JSON of one. */
function parse(text) {
  try {
    return Object(JSON.parse(text));
  } catch {
    return {};
  }
}

/**
 * Read a `Retry-After` (RFC 9110 §10.2.3): seconds, or a date.
 *
 * @param {unknown} value
 * @returns {number} Milliseconds from now; 0 when it is neither, and never more than the ceiling.
 */
function waitMs(value) {
  const text = String(value ?? '');
  const ms = Number(text) * 1000 || Date.parse(text) - Date.now();
  return Math.max(0, Math.min(ms || 0, globalThis.document ? MAX_RETRY_AFTER_MS.page : MAX_RETRY_AFTER_MS.machine));
}
