/** When a client may try to connect again. A rule holds no state: what happened comes in as arguments. */

/**
 * The numbers of the rule. All times are whole milliseconds.
 *
 * @typedef {object} BackoffNumbers
 * @property {number[]} steps_ms Shortest wait after 0, 1, 2, … failures in a row; the last one stands for all that follow.
 * @property {number} spread_ms Least width of the random part: a hundred clients that lose their server at once come back over more than 5 s.
 * @property {number} attempts Most attempts in a window.
 * @property {number} window_ms The server counts five a minute by arrival; one second more allows for an attempt that was slow to arrive.
 */

/** @type {Readonly<BackoffNumbers>} The numbers that clients keep unless they are told others. */
export const BACKOFF = {
  steps_ms: [1000, 2000, 4000, 8000, 16000, 32000],
  spread_ms: 6000,
  attempts: 5,
  window_ms: 61000,
};

/**
 * Tell how long the window of attempts stays full.
 *
 * @param {BackoffNumbers} rule
 * @param {number} now_ms
 * @param {readonly number[]} earlier_ms When the earlier attempts began, oldest first.
 * @returns {number} Milliseconds from now; 0 or less when there is room.
 */
function full(rule, now_ms, earlier_ms) {
  const first = earlier_ms[earlier_ms.length - rule.attempts];
  return first === undefined ? 0 : first + rule.window_ms - now_ms;
}

/**
 * Tell how long to wait before the next attempt.
 *
 * @param {object} at
 * @param {number} at.failures Attempts that failed since the connection was last open.
 * @param {number} at.random A number in [0, 1), new for each call.
 * @param {number} at.now_ms The time now, on the clock of `earlier_ms`.
 * @param {readonly number[]} [at.earlier_ms] When the earlier attempts began, oldest first.
 * @param {number} [at.retry_after_ms] What the server asked for, from now.
 * @param {BackoffNumbers} [rule]
 * @returns {number} Milliseconds from now, 0 or more.
 */
export function delayMs({ failures, random, now_ms, earlier_ms = [], retry_after_ms = 0 }, rule = BACKOFF) {
  const step = rule.steps_ms[Math.min(failures, rule.steps_ms.length - 1)] ?? 0;
  const wait = Math.max(step, retry_after_ms) + Math.floor(random * Math.max(step, rule.spread_ms));
  return Math.max(wait, full(rule, now_ms, earlier_ms));
}

/**
 * Tell how long to wait when there is a reason to try at once: the first `connect()`, the network came back, the page is shown again.
 *
 * @param {object} at
 * @param {number} at.now_ms The time now, on the clock of `earlier_ms`.
 * @param {readonly number[]} [at.earlier_ms] When the earlier attempts began, oldest first.
 * @param {number} [at.retry_after_ms] What is left of what the server asked for.
 * @param {BackoffNumbers} [rule]
 * @returns {number} Milliseconds from now, 0 or more; 0 is at once.
 */
export function wakeMs({ now_ms, earlier_ms = [], retry_after_ms = 0 }, rule = BACKOFF) {
  return Math.max(0, retry_after_ms, full(rule, now_ms, earlier_ms));
}
