/** The session of this browser: who is logged in, shared by all tabs of one address. */
import { Shelf } from './shelf.js';

/** @import {Storage} from './shelf.js' */
/** @import {Session} from './types.js' */

/** One stored session. A tab never deletes a newer session of another tab. */
export class SessionStore {
  #shelf;
  #locks;

  /** @param {Storage} storage @param {string} name @param {Pick<LockManager, 'request'>} [locks] Where browsers have them: shared by all tabs. */
  constructor(storage, name, locks) {
    this.#shelf = new Shelf(storage, name);
    this.#locks = locks;
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

  get #lock() {
    return `${this.name}-token`;
  }

  /**
   * Replace the token: until the new one is stored, every tab that needs a token waits for it.
   *
   * @param {Session} session
   * @param {(before: string) => Promise<{token: string}>} ask A request that ends all tokens of the session and returns a new one.
   * @returns {Promise<string>}
   */
  async replace(session, ask) {
    const work = async () => {
      const { token } = await ask(this.token(session));
      session.token = token;
      this.set(session);
      return token;
    };
    return this.#locks ? await this.#locks.request(this.#lock, work) : await work();
  }

  /** Return when no tab replaces the token. Without this a tab that is refused with the old one would end the session of all. */
  async replaced() {
    const before = this.get()?.token;
    if (!this.#locks || (await this.#locks.request(this.#lock, { mode: 'shared', ifAvailable: true }, (lock) => lock !== null))) return;
    await this.#locks.request(this.#lock, { mode: 'shared' }, () => {});
    // What another process has stored is here a moment after its lock.
    for (let tries = 0; tries < 20 && this.get()?.token === before; tries++) await new Promise((resolve) => setTimeout(resolve, 50));
  }

  /** @param {Session} session @returns {string} The current token: another tab may have logged the same user in again. */
  token({ user_id, token }) {
    const stored = this.get();
    return stored?.user_id === user_id ? stored.token : token;
  }
}
