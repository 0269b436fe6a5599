/** Typing indicators: throttled, and stopped after silence. */
import { after } from './timers.js';
import { makeFrame } from './wire.js';

/** Between two `is_typing: true` of one thread. The server lets it lapse after 6 s. */
export const TYPING_REPEAT_MS = 3000;
/** Without a call for so long, nobody writes any more. */
export const TYPING_IDLE_MS = 4000;

/**
 * @param {(frame: object) => unknown} send What cannot be sent is lost: it is old in a moment.
 * @returns {(threadId?: string, isTyping?: boolean) => void} Call it with true at each key; false stops at once, and 4 s without a call do too.
 *   Without a thread it stops in all.
 */
export function makeTyping(send) {
  /** @type {Map<string, {said: number, timer: any}>} Threads in which somebody here is writing. */
  const threads = new Map();

  /**
   * @param {string} thread_id
   * @param {boolean} is_typing
   */
  const say = (thread_id, is_typing) => send(makeFrame('typing_indicator', { thread_id, is_typing }));

  /**
   * @param {string} [threadId]
   * @param {boolean} [isTyping]
   */
  const typing = (threadId, isTyping) => {
    if (!threadId) return [...threads.keys()].forEach((id) => void typing(id));
    const now = Date.now();
    const thread = threads.get(threadId);
    clearTimeout(thread?.timer);
    if (isTyping) {
      const due = !thread || now - thread.said >= TYPING_REPEAT_MS;
      if (due) say(threadId, true);
      threads.set(threadId, { said: due ? now : thread.said, timer: after(TYPING_IDLE_MS, () => typing(threadId)) });
    } else if (threads.delete(threadId)) say(threadId, false);
  };
  return typing;
}
