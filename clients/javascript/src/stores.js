/** Persistence between two runs: positions to resume from, and unsent drafts. */

/**
 * A place for small values under string keys. Yours may be IndexedDB, SQLCipher or a file; each method may return a promise.
 * Values are plain JSON data. Calls are made in order, and the next one of a key waits for the one before.
 *
 * @typedef {object} Store
 * @property {(key: string) => unknown} get The value; undefined or null when there is none.
 * @property {(key: string, value: unknown) => unknown} set
 * @property {(key: string) => unknown} delete
 * @property {() => Iterable<string> | Promise<Iterable<string>>} keys All keys that `set` was given, in any order.
 */

/**
 * Keep values until the page or process ends.
 *
 * @returns {Store}
 */
export const memoryStore = () => new Map();

/**
 * Keep values in `localStorage` (or another `Storage`), for this origin, across reloads.
 *
 * @param {string} [prefix] Stands before every key; give each account its own, or one account resumes at another's position.
 * @param {Storage} [storage]
 * @returns {Store}
 */
export function localStorageStore(prefix = 'orbital:', storage = localStorage) {
  return {
    get: (key) => JSON.parse(storage.getItem(prefix + key) ?? 'null'),
    set: (key, value) => storage.setItem(prefix + key, JSON.stringify(value)),
    delete: (key) => storage.removeItem(prefix + key),
    keys: () => Object.keys(storage).flatMap((key) => (key.startsWith(prefix) ? key.slice(prefix.length) : [])),
  };
}
