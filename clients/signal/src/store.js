// SPDX-License-Identifier: AGPL-3.0-only
/** The store by @signalapp/sqlcipher: the same file format and the same code as every SQLCipher store, another driver. */
import Database from '@signalapp/sqlcipher';
import { sqlcipherStore } from '@orbital-relay/e2ee/sqlcipher';

/** @import { Bytes, Store } from '@orbital-relay/e2ee' */
/** @import { Driver } from '@orbital-relay/e2ee/sqlcipher' */

/** @param {string} path @returns {Driver} */
function signalDriver(path) {
  const database = new Database(path);
  /** @type {Map<string, ReturnType<typeof database.prepare>>} */
  const prepared = new Map();
  /** @param {string} sql */
  const statement = (sql) => {
    let found = prepared.get(sql);
    if (!found) prepared.set(sql, (found = database.prepare(sql)));
    return found;
  };
  return {
    exec: (sql) => database.exec(sql),
    all: (sql, values) => /** @type {{key: string, value: string}[]} */ (statement(sql).all(values)),
    run: (sql, values) => void statement(sql).run(values),
    close: () => database.close(),
  };
}

/**
 * Open or create an encrypted store.
 *
 * @param {string} path
 * @param {Bytes} key 32 random bytes; in Electron `safeStorage` keeps them.
 * @returns {Store}
 * @throws {import('@orbital-relay/e2ee').E2eeError} `locked` when the key is not the file's, or another process has it.
 */
export const signalStore = (path, key) => sqlcipherStore(signalDriver(path), key);
