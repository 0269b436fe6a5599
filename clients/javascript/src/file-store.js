/** A store in one file, for Node and Electron's main process. */
import { open, readFile, rename } from 'node:fs/promises';
import { dirname } from 'node:path';
import { OrbitalError } from './errors.js';

/** @import {Store} from './stores.js' */

/**
 * Keep values in a file, across crashes and power cuts: each change is written beside it, synced and renamed, so that the file is always whole,
 * the old one or the new one. Its promise resolves when the change is durable. Changes that come while one is being written are written together.
 *
 * The file belongs to one process at a time, and to its user alone (mode 0600).
 *
 * @param {string} path
 * @returns {Promise<Store>}
 * @throws {OrbitalError} `VALIDATION_ERROR` when the file is there and is not a store: it is left as it is.
 */
export async function fileStore(path) {
  /** @type {Map<string, unknown>} */
  const map = new Map(await load(path));
  /** @type {Promise<void> | undefined} */
  let writing;
  /** @type {Promise<void> | undefined} The write that has not begun. */
  let next;

  /** @returns {Promise<void>} */
  const save = () =>
    (next ??= (writing ?? Promise.resolve())
      .catch(() => {})
      .then(() => {
        next = undefined;
        return (writing = write(path, JSON.stringify([...map])));
      }));

  return {
    get: (key) => map.get(key),
    // A value is kept as it is now, whatever its owner does to it later.
    set: (key, value) => (map.set(key, structuredClone(value)), save()),
    delete: (key) => (map.delete(key) ? save() : undefined),
    keys: () => [...map.keys()],
  };
}

/** @param {string} path @returns {Promise<[string, unknown][]>} */
async function load(path) {
  let text;
  try {
    text = await readFile(path, 'utf8');
  } catch (cause) {
    if (/** @type {any} */ (cause).code === 'ENOENT') return [];
    throw cause;
  }
  try {
    const entries = JSON.parse(text);
    if (entries.every((/** @type {unknown} */ entry) => Array.isArray(entry) && typeof entry[0] === 'string')) return entries;
  } catch {
    // Said below.
  }
  throw new OrbitalError('VALIDATION_ERROR', `${path} is not a store of this library; move it away, or name another file`);
}

/**
 * @param {string} path
 * @param {string} text
 */
async function write(path, text) {
  const beside = `${path}.new`;
  const file = await open(beside, 'w', 0o600);
  try {
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(beside, path);
  // Windows cannot open a folder, and renames durably by itself.
  const folder = await open(dirname(path), 'r').catch(() => undefined);
  try {
    await folder?.sync();
  } finally {
    await folder?.close();
  }
}
