/** A unit of work: reads through to the store, keeps writes until they are committed together. */

/** @import { Store, Table, Write } from './ports.js' */

const GONE = Symbol('deleted');

export class Unit {
  /** @type {Map<string, {table: Table, key: string, value: unknown}>} */
  #writes = new Map();
  #below;

  /** @param {Pick<Store, 'get' | 'list'> | Unit} below */
  constructor(below) {
    this.#below = below;
  }

  /** @param {Table} table @param {string} key @returns {Promise<any>} Undefined when there is no such key. */
  async get(table, key) {
    const written = this.#writes.get(`${table}\n${key}`);
    if (written) return written.value === GONE ? undefined : written.value;
    return this.#below.get(table, key);
  }

  /** @param {Table} table @param {string} [prefix] @param {number} [limit] @returns {Promise<[string, any][]>} In the order of keys. */
  async list(table, prefix = '', limit = Infinity) {
    const written = [...this.#writes.values()].filter((one) => one.table === table && one.key.startsWith(prefix));
    if (written.length === 0) return this.#below.list(table, prefix, limit);
    const found = new Map(await this.#below.list(table, prefix));
    for (const { key, value } of written) {
      if (value === GONE) found.delete(key);
      else found.set(key, value);
    }
    return [...found].sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)).slice(0, limit);
  }

  /** @param {Table} table @param {string} key @param {unknown} value */
  put(table, key, value) {
    this.#writes.set(`${table}\n${key}`, { table, key, value });
  }

  /** @param {Table} table @param {string} key */
  delete(table, key) {
    this.put(table, key, GONE);
  }

  /** @returns {Unit} A unit whose writes count only once they are merged. */
  fork() {
    return new Unit(this);
  }

  /** @param {Unit} fork Its writes become this unit's. */
  merge(fork) {
    for (const [id, write] of fork.#writes) this.#writes.set(id, write);
  }

  /** @returns {Write[]} */
  writes() {
    return [...this.#writes.values()].map(({ table, key, value }) => (value === GONE ? { table, key } : { table, key, value }));
  }
}

/**
 * Run `work` as one transaction. Nothing is written when it throws.
 *
 * @template T
 * @param {Store} store
 * @param {(unit: Unit) => Promise<T>} work
 * @param {{durable?: boolean}} [options] `durable`: on the disk before it resolves; what is about to be posted needs it.
 * @returns {Promise<T>}
 */
export const transact = (store, work, { durable = false } = {}) =>
  store.exclusive(async () => {
    const unit = new Unit(store);
    const result = await work(unit);
    const writes = unit.writes();
    if (writes.length) await store.commit(writes, durable);
    return result;
  });

/** @param {number} value A sequence number. @returns {string} 16 digits, so that keys sort as numbers do. */
export const ordered = (value) => String(value).padStart(16, '0');
