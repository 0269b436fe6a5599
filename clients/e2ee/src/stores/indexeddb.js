/**
 * A store in IndexedDB: private keys as CryptoKeys that cannot be read out, everything else sealed under such a key.
 *
 * Several tabs share it: `exclusive` holds a Web Lock, so that one tab at a time reads and writes.
 */
import { fromUtf8, random, utf8 } from '../bytes.js';
import { fromText, toText } from '../codec.js';
import { TABLES } from '../ports.js';

/** @import { Bytes } from '../bytes.js' */
/** @import { Store, Visit, Write } from '../ports.js' */

/** @typedef {{iv: Bytes, sealed: ArrayBuffer, handles: CryptoKey[]}} Row */

/** 2 added the frames. */
const VERSION = 2;
const AES = { name: 'AES-GCM', length: 256 };
const KEY_TABLE = 'key';
/** The one key that stands for a CryptoKey in a sealed value. */
const HANDLE = '$handle';

/**
 * @template T
 * @param {IDBRequest<T>} request
 * @returns {Promise<T>}
 */
const done = (request) =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

/** @param {IDBTransaction} transaction @returns {Promise<void>} */
const committed = (transaction) =>
  new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve();
    transaction.onabort = transaction.onerror = () => reject(transaction.error);
  });

/** @param {string} name @returns {Promise<IDBDatabase>} */
function openDatabase(name) {
  const request = indexedDB.open(name, VERSION);
  request.onupgradeneeded = () => {
    const present = request.result.objectStoreNames;
    for (const table of [...TABLES, KEY_TABLE]) if (!present.contains(table)) request.result.createObjectStore(table);
  };
  return done(request);
}

/** @param {IDBDatabase} database @returns {Promise<CryptoKey>} The key of this store, made on first use. */
async function storeKey(database) {
  const made = await crypto.subtle.generateKey(AES, false, ['encrypt', 'decrypt']);
  const transaction = database.transaction(KEY_TABLE, 'readwrite', { durability: 'strict' });
  const rows = transaction.objectStore(KEY_TABLE);
  // Read and write in one transaction: of two tabs that open a new store, one makes the key.
  const present = await done(rows.get('aes'));
  if (!present) rows.put(made, 'aes');
  await committed(transaction);
  return present ?? made;
}

/**
 * Open or create a store of this origin.
 *
 * @param {string} name Each account has its own.
 * @returns {Promise<Store>}
 */
export async function indexedDbStore(name) {
  const database = await openDatabase(name);
  // A newer version of the page may upgrade: this tab's work then fails, and it loads again.
  database.onversionchange = () => database.close();
  const key = await storeKey(database);

  /** @param {string} table @param {string} id @returns {Bytes} A row opens in its own place only. */
  const bound = (table, id) => utf8(`${table}\n${id}`);

  /** @param {string} table @param {string} id @param {unknown} value @returns {Promise<Row>} */
  async function seal(table, id, value) {
    /** @type {CryptoKey[]} */
    const handles = [];
    const text = toText(replaceKeys(value, (handle) => ({ [HANDLE]: handles.push(handle) - 1 })));
    const iv = random(12);
    return { iv, handles, sealed: await crypto.subtle.encrypt({ name: 'AES-GCM', iv, additionalData: bound(table, id) }, key, utf8(text)) };
  }

  /** @param {string} table @param {string} id @param {Row} row @returns {Promise<unknown>} */
  async function open(table, id, { iv, sealed, handles }) {
    const plain = await crypto.subtle.decrypt({ name: 'AES-GCM', iv, additionalData: bound(table, id) }, key, sealed);
    return restoreKeys(fromText(fromUtf8(new Uint8Array(plain))), handles);
  }

  return {
    keys: 'handles',
    async get(table, id) {
      const row = await done(database.transaction(table).objectStore(table).get(id));
      return row && open(table, id, row);
    },
    async list(table, prefix, limit) {
      const range = IDBKeyRange.bound(prefix, `${prefix}\uffff`);
      const rows = database.transaction(table).objectStore(table);
      const count = limit === undefined || limit === Infinity ? undefined : limit;
      const [keys, values] = await Promise.all([done(rows.getAllKeys(range, count)), done(rows.getAll(range, count))]);
      return Promise.all(
        keys.map(async (id, at) => /** @type {[string, unknown]} */ ([String(id), await open(table, String(id), values[at])])),
      );
    },
    async commit(writes, durable) {
      // Sealed before the transaction begins: IndexedDB ends a transaction that waits for anything else.
      const sealed = await Promise.all(
        writes.map(async ({ table, key: id, value }) => ({
          table,
          id,
          row: value === undefined ? undefined : await seal(table, id, value),
        })),
      );
      const transaction = database.transaction([...new Set(writes.map((/** @type {Write} */ one) => one.table))], 'readwrite', {
        durability: durable ? 'strict' : 'relaxed',
      });
      const finished = committed(transaction);
      for (const { table, id, row } of sealed) {
        const rows = transaction.objectStore(table);
        if (row) rows.put(row, id);
        else rows.delete(id);
      }
      await finished;
    },
    exclusive: /** @type {Store['exclusive']} */ ((work) => navigator.locks.request(`orbital-e2ee:${name}`, work)),
    visit: () => beginVisit(`orbital-e2ee:${name}`),
    async close() {
      database.close();
    },
  };
}

/** @param {string} lock Begins the names of the store's locks. @returns {Promise<Visit>} It holds a Web Lock, which the browser releases with the tab. */
async function beginVisit(lock) {
  const prefix = `${lock}:visit:`;
  const name = crypto.randomUUID();
  /** @type {() => void} */
  let end = () => {};
  const ended = new Promise((resolve) => (end = () => resolve(undefined)));
  await new Promise((resolve, reject) => {
    const held = () => {
      resolve(undefined);
      return ended;
    };
    navigator.locks.request(prefix + name, held).catch(reject);
  });
  return {
    name,
    async open() {
      const { held = [] } = await navigator.locks.query();
      return new Set(held.flatMap((one) => (one.name?.startsWith(prefix) ? [one.name.slice(prefix.length)] : [])));
    },
    alone: /** @type {Visit['alone']} */ ((work) => navigator.locks.request(`${lock}:alone`, work)),
    end,
  };
}

/** @param {any} value @param {(handle: CryptoKey) => unknown} replace @returns {any} */
function replaceKeys(value, replace) {
  if (value instanceof CryptoKey) return replace(value);
  if (value === null || typeof value !== 'object' || value instanceof Uint8Array) return value;
  if (Array.isArray(value)) return value.map((one) => replaceKeys(one, replace));
  return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, replaceKeys(one, replace)]));
}

/** @param {any} value @param {CryptoKey[]} handles @returns {any} */
function restoreKeys(value, handles) {
  if (value === null || typeof value !== 'object' || value instanceof Uint8Array) return value;
  if (typeof value[HANDLE] === 'number') return handles[value[HANDLE]];
  if (Array.isArray(value)) return value.map((one) => restoreKeys(one, handles));
  return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, restoreKeys(one, handles)]));
}
