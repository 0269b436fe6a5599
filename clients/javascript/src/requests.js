/** Common parts of REST requests: JSON, idempotency keys, pagination. */
import { OrbitalError } from './errors.js';
import { Http, readJson } from './http.js';
import { uuid } from './uuid.js';

/** The most entries that a method collects into one list; the iterators have no such limit. */
export const MAX_LIST = 100_000;

/** @typedef {{key?: string, signal?: AbortSignal}} PostOptions `key`: the `Idempotency-Key` (1–128 visible ASCII): the same request under the same key counts once. Left out, each call has its own, so that a repetition by the browser or a proxy counts once; give yours to repeat a call whose answer was lost. */

/** Requests with bodies and answers of JSON. It knows no path. */
export class Requests extends Http {
  /**
   * Make a request with a JSON body, and return the answer's body.
   *
   * @param {string} method
   * @param {string} path
   * @param {string} [gives] A member that the server's answer has; left out, it has no body.
   * @param {unknown} [body]
   * @param {PostOptions & {keepalive?: boolean}} [options] `keepalive`: it goes on when the page is closed.
   * @returns {Promise<any>}
   * @protected
   */
  json(method, path, gives, body, { key, signal, keepalive } = {}) {
    const headers = { ...(body ? { 'Content-Type': 'application/json' } : {}), ...(key ? { 'Idempotency-Key': key } : {}) };
    return this.request(method, path, { headers, signal, keepalive, ...(body ? { body: JSON.stringify(body) } : {}) }, (response) =>
      readJson(response, gives),
    );
  }

  /**
   * Post what must count once.
   *
   * @param {string} path
   * @param {string} gives
   * @param {unknown} body
   * @param {PostOptions} [options]
   * @protected
   */
  once(path, gives, body, options) {
    return this.json('POST', path, gives, body, { ...options, key: options?.key ?? uuid() });
  }

  /**
   * @param {string} path
   * @param {string} gives
   * @param {Record<string, string | number | undefined>} [query]
   * @param {AbortSignal} [signal]
   * @protected
   */
  get(path, gives, query = {}, signal) {
    const search = new URLSearchParams();
    for (const [name, value] of Object.entries(query)) if (value !== undefined) search.set(name, String(value));
    return this.json('GET', path + (`${search}` && `?${search}`), gives, undefined, signal && { signal });
  }

  /**
   * Iterate over a list that is paged by offset. An entry that moves to the next page meanwhile, since another was added before it, is yielded once.
   *
   * @param {string} path
   * @param {string} gives
   * @param {string | ((entry: any) => string)} name The member that identifies an entry, or what makes an identity of it.
   * @param {{limit?: number, offset?: number, sort?: string, group_id?: string, search?: string}} [query]
   * @returns {AsyncGenerator<any, void, undefined>}
   * @protected
   */
  async *each(path, gives, name, query = {}) {
    let before = new Set();
    for (let offset = query.offset ?? 0; ; ) {
      const page = await this.get(path, gives, { ...query, offset: offset || query.offset });
      const entries = page[gives];
      const ids = new Set();
      for (const entry of entries) {
        const identity = typeof name === 'string' ? entry[name] : name(entry);
        ids.add(identity);
        if (!before.has(identity)) yield entry;
      }
      if (!page.has_more || !entries.length) return;
      before = ids;
      offset += entries.length;
    }
  }

  /**
   * Read a list to its end.
   *
   * @template T
   * @param {AsyncIterable<T>} entries
   * @param {string} what Named in the error.
   * @returns {Promise<T[]>}
   * @throws {OrbitalError} `TOO_LARGE` above MAX_LIST.
   * @protected
   */
  async collect(entries, what) {
    const all = [];
    for await (const entry of entries)
      if (all.push(entry) > MAX_LIST) throw new OrbitalError('TOO_LARGE', `${what} has more than ${MAX_LIST} entries`);
    return all;
  }

  /**
   * @param {string} path
   * @param {string} gives
   * @param {string} name
   * @returns {Promise<any[]>}
   * @protected
   */
  all(path, gives, name) {
    return this.collect(this.each(path, gives, name), path);
  }
}
