/** Telling others that somebody writes: seldom enough for the wire, and never for ever. */

/** Between two `is_typing: true` of one thread. The server lets it lapse after 6 s. */
export const TYPING_REPEAT_MS = 3000;
/** Without a call for so long, nobody writes any more. */
export const TYPING_IDLE_MS = 4000;

/** The threads in which somebody here is writing. */
export class Typing {
  /** @type {Map<string, {said: number, timer: any}>} */
  #threads = new Map();
  #say;

  /** @param {(threadId: string, isTyping: boolean) => unknown} say Sends it, or loses it: it is old in a moment. */
  constructor(say) {
    this.#say = say;
  }

  /**
   * @param {string} threadId
   * @param {boolean} isTyping Call with true at each key; false stops at once, and 4 s without a call do too.
   */
  typing(threadId, isTyping) {
    const now = Date.now();
    const thread = this.#threads.get(threadId);
    clearTimeout(thread?.timer);
    if (!isTyping) {
      if (this.#threads.delete(threadId)) this.#say(threadId, false);
      return;
    }
    const due = !thread || now - thread.said >= TYPING_REPEAT_MS;
    if (due) this.#say(threadId, true);
    this.#threads.set(threadId, {
      said: due ? now : thread.said,
      timer: setTimeout(() => this.typing(threadId, false), TYPING_IDLE_MS),
    });
  }

  /** Stop everywhere. */
  stop() {
    for (const threadId of [...this.#threads.keys()]) this.typing(threadId, false);
  }
}
