/** Typing indicators: who is writing, by thread, and their timeout. */

/** The server reports the end after 6 s; this timeout applies when that report is lost. */
const TYPING_MS = 8000;

/** The members who are writing now. Each entry expires after 8 s without a new signal. */
export class Typists {
  /** @type {Map<string, Map<string, {username: string, timer: ReturnType<typeof setTimeout>}>>} */
  #threads = new Map();
  #changed;

  /** @param {() => void} changed */
  constructor(changed) {
    this.#changed = changed;
  }

  /** @param {string} threadId @param {string} userId @param {string} username */
  began(threadId, userId, username) {
    this.stopped(threadId, userId);
    const typists = this.#threads.get(threadId) ?? new Map();
    this.#threads.set(threadId, typists);
    const timer = setTimeout(() => {
      this.stopped(threadId, userId);
      this.#changed();
    }, TYPING_MS);
    typists.set(userId, { username, timer });
  }

  /** @param {string} threadId @param {string} userId */
  stopped(threadId, userId) {
    const typists = this.#threads.get(threadId);
    clearTimeout(typists?.get(userId)?.timer);
    typists?.delete(userId);
    if (!typists?.size) this.#threads.delete(threadId);
  }

  /** Remove a former member's entries. @param {Iterable<string>} threadIds Of that group. @param {string} userId */
  left(threadIds, userId) {
    for (const threadId of threadIds) this.stopped(threadId, userId);
  }

  /** @param {string} threadId @returns {string[]} */
  names(threadId) {
    return [...(this.#threads.get(threadId)?.values() ?? [])].map(({ username }) => username);
  }

  clear() {
    for (const [threadId, typists] of this.#threads) for (const userId of [...typists.keys()]) this.stopped(threadId, userId);
  }
}
