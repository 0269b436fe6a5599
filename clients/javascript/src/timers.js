/** Timers: the only place that starts them, with delays clamped to what the platform supports. */

/** The longest wait of a platform's timer, in milliseconds: 31 bits. A longer one would fire at once. */
export const MAX_TIMER_MS = 2 ** 31 - 1;

/**
 * Call `then` after a wait.
 *
 * @param {number} ms At most 24.8 days are waited, and 0 when it is no positive number.
 * @param {() => unknown} then
 * @returns {any} What `clearTimeout` takes.
 */
export const after = (ms, then) => setTimeout(then, ms > 0 ? Math.min(ms, MAX_TIMER_MS) : 0);

/**
 * Wait.
 *
 * @param {number} ms
 * @param {AbortSignal | undefined} [signal] Ends the wait early; it is the caller's to look at it.
 * @returns {Promise<void>}
 */
export const sleep = (ms, signal) =>
  new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', done);
      resolve();
    };
    const timer = after(ms, done);
    if (signal?.aborted) done();
    signal?.addEventListener('abort', done);
  });
