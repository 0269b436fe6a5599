/** Who is writing, by thread. */

/** The server reports the end itself, after 6 s; this is for when that report is lost. */
const TYPING_MS = 8000;

/** The members who are writing now. It holds nobody longer than 8 s without a new sign. */
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

  /** Somebody is no longer a member: nothing is shown of them. @param {Iterable<string>} threadIds Of that group. @param {string} userId */
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
