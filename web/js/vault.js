/** Keys and half-sent photos, in this browser's IndexedDB. Keys are CryptoKeys that cannot be read out; photos are sealed before they come here. */

const NAME = 'orbital';
const TABLES = ['keys', 'uploads'];

/** @type {Promise<IDBDatabase> | undefined} */
let opened;

const database = () =>
  (opened ??= new Promise((resolve, reject) => {
    const asked = indexedDB.open(NAME, 1);
    asked.onupgradeneeded = () => TABLES.forEach((name) => asked.result.createObjectStore(name));
    asked.onsuccess = () => {
      // A browser may cut a page off from it, as a phone does in the background: the next one asks anew.
      asked.result.onclose = () => (opened = undefined);
      resolve(asked.result);
    };
    asked.onerror = () => reject(asked.error);
  }).catch((cause) => {
    opened = undefined;
    throw cause;
  }));

/**
 * @template T
 * @param {string} table
 * @param {IDBTransactionMode} mode
 * @param {(store: IDBObjectStore) => IDBRequest<T>} act
 * @returns {Promise<T>} When it is on the disk.
 */
async function run(table, mode, act) {
  const transaction = (await database()).transaction(table, mode);
  const asked = act(transaction.objectStore(table));
  return new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve(asked.result);
    transaction.onerror = transaction.onabort = () => reject(transaction.error);
  });
}

/** @param {string} table */
const place = (table) => ({
  /** @param {string} name @returns {Promise<any>} Undefined when there is none. */
  get: (name) => run(table, 'readonly', (store) => store.get(name)),
  /** @param {string} name @param {unknown} value */
  set: (name, value) => run(table, 'readwrite', (store) => store.put(value, name)),
  /** @param {string} name */
  delete: (name) => run(table, 'readwrite', (store) => store.delete(name)),
  /** @param {string} prefix @returns {Promise<any[]>} */
  all: (prefix) => run(table, 'readonly', (store) => store.getAll(IDBKeyRange.bound(prefix, `${prefix}\uffff`))),
  /** @param {string} prefix */
  clear: (prefix) => run(table, 'readwrite', (store) => store.delete(IDBKeyRange.bound(prefix, `${prefix}\uffff`))),
});

export const keys = place('keys');
export const uploads = place('uploads');

/** Find out whether this browser keeps keys, before anything is made that needs one. */
export async function probe() {
  const name = `probe/${crypto.randomUUID()}`;
  try {
    await keys.set(name, name);
    await keys.delete(name);
  } catch (cause) {
    throw new Error('This browser does not let the page keep its keys: the window may be private, or the storage full. Try another window or browser.', { cause });
  }
}

/** @param {string} userId */
export const identityName = (userId) => `${userId}/identity`;
/** @param {string} userId @param {string} groupId */
export const groupKeyName = (userId, groupId) => `${userId}/group/${groupId}`;
