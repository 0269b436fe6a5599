/** Drafts (unsent text), stored in localStorage, encrypted with the group's key; they survive reloads, tabs and the end of a session. */
import { open, seal } from '../crypto/envelope.js';
import { Shelf } from './shelf.js';

/** @import {Storage} from './shelf.js' */

/** @typedef {{groupId: string, key: CryptoKey}} DraftGroup The group in which it is written. */

/** @typedef {{title: string, body: string}} Draft */

/** The drafts of one member, each under the id of its thread, or `new:` and the group's id for a new thread. */
export class Drafts {
  #storage;
  #prefix;
  #full;
  /** @type {Map<string, {group: DraftGroup, draft: Draft}>} Drafts that are not stored yet, by name. */
  #dirty = new Map();
  /** @type {Set<string>} Names that are being sealed now. */
  #busy = new Set();

  /** @param {Storage} storage @param {string} userId @param {() => void} full */
  constructor(storage, userId, full) {
    this.#storage = storage;
    this.#prefix = `orbital-draft:${userId}:`;
    this.#full = full;
  }

  /** @param {string} name @param {DraftGroup} group @returns {Promise<Draft>} Empty when there is none. */
  async load(name, { groupId, key }) {
    const dirty = this.#dirty.get(name);
    if (dirty) return dirty.draft;
    const text = await open(key, groupId, `draft/${name}`, String(this.#shelf(name).read()?.sealed ?? ''));
    try {
      const { title, body } = JSON.parse(text ?? '{}');
      return { title: typeof title === 'string' ? title : '', body: typeof body === 'string' ? body : '' };
    } catch {
      return { title: '', body: '' };
    }
  }

  /**
   * Save a draft. Encryption starts at once; while it runs, only the latest state is queued.
   *
   * @param {string} name
   * @param {DraftGroup} group
   * @param {Partial<Draft>} draft
   */
  save(name, group, { title = '', body = '' }) {
    this.#dirty.set(name, { group, draft: { title, body } });
    if (!this.#busy.has(name)) void this.#write(name);
  }

  /** Delete a draft, because it was sent. @param {string} name */
  delete(name) {
    this.#dirty.delete(name);
    this.#shelf(name).delete();
  }

  /** @param {string} name */
  #shelf(name) {
    return new Shelf(this.#storage, this.#prefix + name, this.#full);
  }

  /** @param {string} name */
  async #write(name) {
    this.#busy.add(name);
    for (let dirty = this.#dirty.get(name); dirty; dirty = this.#dirty.get(name)) {
      const { group, draft } = dirty;
      const sealed = draft.title || draft.body ? await seal(group.key, group.groupId, `draft/${name}`, JSON.stringify(draft)) : '';
      // The draft was sent or changed during encryption: the newer state wins.
      if (this.#dirty.get(name) !== dirty) continue;
      if (sealed) this.#shelf(name).write({ sealed });
      else this.#shelf(name).delete();
      this.#dirty.delete(name);
    }
    this.#busy.delete(name);
  }
}
