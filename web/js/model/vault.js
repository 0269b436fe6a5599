/** Keys and unfinished uploads, in this browser's IndexedDB. Keys are CryptoKeys that cannot be exported; photos are sealed before they are stored. */

import { newIdentity } from '../crypto/identity.js';

const NAME = 'orbital';
const TABLES = ['keys', 'uploads'];

/** @type {Promise<IDBDatabase> | undefined} */
let opened;

const database = () => {
  opened ??= new Promise((resolve, reject) => {
    const asked = indexedDB.open(NAME, 1);
    asked.onupgradeneeded = () => {
      for (const name of TABLES) asked.result.createObjectStore(name);
    };
    asked.onsuccess = () => {
      // A browser may close the database, as a phone does in the background: the next call opens it again.
      asked.result.onclose = () => {
        opened = undefined;
      };
      resolve(asked.result);
    };
    asked.onerror = () => reject(asked.error);
  }).catch((cause) => {
    opened = undefined;
    throw cause;
  });
  return /** @type {Promise<IDBDatabase>} */ (opened);
};

/**
 * @template T
 * @param {string} table
 * @param {IDBTransactionMode} mode
 * @param {(store: IDBObjectStore) => IDBRequest<T>} act
 * @returns {Promise<T>} Resolves when the transaction is complete.
 */
async function run(table, mode, act) {
  const transaction = (await database()).transaction(table, mode);
  const asked = act(transaction.objectStore(table));
  return new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve(asked.result);
    transaction.onabort = () => reject(transaction.error);
    transaction.onerror = () => reject(transaction.error);
  });
}

/**
 * A table of values by name.
 *
 * @typedef {object} Table
 * @property {(name: string) => Promise<any>} get Undefined when there is none.
 * @property {(name: string, value: unknown) => Promise<unknown>} set
 * @property {(name: string) => Promise<unknown>} delete
 * @property {(prefix: string) => Promise<any[]>} all
 * @property {(prefix: string) => Promise<unknown>} clear
 */

/** @param {string} table @returns {Table} */
const openTable = (table) => ({
  get: (name) => run(table, 'readonly', (store) => store.get(name)),
  set: (name, value) => run(table, 'readwrite', (store) => store.put(value, name)),
  delete: (name) => run(table, 'readwrite', (store) => store.delete(name)),
  all: (prefix) => run(table, 'readonly', (store) => store.getAll(IDBKeyRange.bound(prefix, `${prefix}\uffff`))),
  clear: (prefix) => run(table, 'readwrite', (store) => store.delete(IDBKeyRange.bound(prefix, `${prefix}\uffff`))),
});

/** @param {string} userId @returns {string} The database of the member's device in groups of version 2. */
export const deviceStore = (userId) => `orbital-e2ee:${userId}`;

/** Delete what this browser knows of groups of version 2. Its own tabs close it first. @param {string} userId @returns {Promise<void>} */
export const deleteDevice = (userId) =>
  new Promise((resolve, reject) => {
    const asked = indexedDB.deleteDatabase(deviceStore(userId));
    asked.onsuccess = () => resolve();
    asked.onerror = () => reject(asked.error);
  });

export const keys = openTable('keys');
export const uploads = openTable('uploads');

/** Check that this browser can store a key, before an account is created. It stores one: some browsers store texts, but no keys. */
export async function probe() {
  const name = `probe/${crypto.randomUUID()}`;
  try {
    await keys.set(name, await newIdentity());
    await keys.delete(name);
  } catch (cause) {
    throw new Error(
      'This browser does not let the page store its keys: this may be a private window, or the storage is full. Try another window or browser.',
      { cause },
    );
  }
}
