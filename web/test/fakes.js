/** In-memory fakes of what the model uses. */
import { Versions } from '../js/model/versions.js';

/** For members without a group of version 2. */
export const firstOnly = new Versions(/** @type {any} */ ({}), /** @type {any} */ ({ client: { api: { async *eachRecord() {} } } }), {
  read() {},
  drafts() {},
  sent() {},
  changed() {},
});

/** @returns {import('../js/model/shelf.js').Storage & {values: Map<string, string>}} */
export function memoryStorage() {
  const values = new Map();
  return {
    values,
    getItem: (name) => values.get(name) ?? null,
    setItem: (name, value) => void values.set(name, value),
    removeItem: (name) => void values.delete(name),
  };
}

/** A storage without room. */
export function fullStorage() {
  const storage = memoryStorage();
  storage.setItem = () => {
    throw new DOMException('full', 'QuotaExceededError');
  };
  return storage;
}

/** A table as `vault.js` makes them. */
export function memoryTable() {
  const values = new Map();
  const under = (/** @type {string} */ prefix) => [...values.keys()].filter((name) => name.startsWith(prefix));
  return {
    values,
    get: async (/** @type {string} */ name) => values.get(name),
    set: async (/** @type {string} */ name, /** @type {any} */ value) => void values.set(name, value),
    delete: async (/** @type {string} */ name) => void values.delete(name),
    all: async (/** @type {string} */ prefix) => under(prefix).map((name) => values.get(name)),
    clear: async (/** @type {string} */ prefix) => under(prefix).forEach((name) => void values.delete(name)),
  };
}

/** Wait until a fact is true. @param {() => unknown} fact */
export async function until(fact) {
  const until = Date.now() + 120_000;
  while (!(await fact())) {
    if (Date.now() > until) throw new Error('it never came');
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}
