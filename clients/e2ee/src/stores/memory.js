/** A store in memory: for tests, and for a device that forgets. */
import { fromText, toText } from '../codec.js';
import { TABLES } from '../ports.js';

/** @import { Store } from '../ports.js' */

/** @returns {<T>(work: () => Promise<T>) => Promise<T>} Runs works one after the other. */
export function queue() {
  /** @type {Promise<unknown>} */
  let last = Promise.resolve();
  return (work) => {
    const turn = last.then(work);
    last = turn.catch(() => undefined);
    return turn;
  };
}

/**
 * @param {Record<string, [string, string][]>} [snapshot] Of `snapshot()`, to restore an old copy.
 * @returns {Store & {snapshot(): Record<string, [string, string][]>}}
 */
export function memoryStore(snapshot = {}) {
  const tables = new Map(TABLES.map((table) => [/** @type {string} */ (table), new Map(snapshot[table])]));
  /** @param {string} table */
  const of = (table) => /** @type {Map<string, string>} */ (tables.get(table));
  return {
    keys: 'bytes',
    async get(table, key) {
      const text = of(table).get(key);
      return text === undefined ? undefined : fromText(text);
    },
    async list(table, prefix, limit = Infinity) {
      const keys = [...of(table).keys()].filter((key) => key.startsWith(prefix)).sort();
      return keys.slice(0, limit).map((key) => [key, fromText(/** @type {string} */ (of(table).get(key)))]);
    },
    async commit(writes) {
      const texts = writes.map(({ table, key, value }) => ({ table, key, text: value === undefined ? undefined : toText(value) }));
      for (const { table, key, text } of texts) {
        if (text === undefined) of(table).delete(key);
        else of(table).set(key, text);
      }
    },
    exclusive: queue(),
    async close() {},
    snapshot: () => Object.fromEntries([...tables].map(([table, rows]) => [table, [...rows]])),
  };
}
