/** The session of this browser: who is logged in, shared by all tabs of one address. */
import { Shelf } from './shelf.js';

/** @import {Storage} from './shelf.js' */
/** @import {Session} from './types.js' */

/** One stored session. A tab never deletes a newer session of another tab. */
export class SessionStore {
  #shelf;

  /** @param {Storage} storage @param {string} name */
  constructor(storage, name) {
    this.#shelf = new Shelf(storage, name);
  }

  get name() {
    return this.#shelf.name;
  }

  /** @returns {Session | null} */
  get() {
    const { user_id, username, token } = this.#shelf.read() ?? {};
    return [user_id, username, token].every((one) => typeof one === 'string') ? { user_id, username, token } : null;
  }

  /** @param {Session} session @returns {boolean} Whether it is stored; without room it lasts as long as the page. */
  set({ user_id, username, token }) {
    return this.#shelf.write({ user_id, username, token });
  }

  /** @param {string} token Of the session that has ended. */
  end(token) {
    if (this.get()?.token === token) this.#shelf.delete();
  }

  /** @param {Session} session @returns {string} The current token: another tab may have logged the same user in again. */
  token({ user_id, token }) {
    const stored = this.get();
    return stored?.user_id === user_id ? stored.token : token;
  }
}
