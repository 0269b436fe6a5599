/** Reconnect back-off with jitter: the delay before the next attempt to reconnect. Pure functions of their arguments. */

/**
 * The numbers of the rule. All times are whole milliseconds.
 *
 * @typedef {object} BackoffNumbers
 * @property {number[]} steps_ms Shortest wait after 0, 1, 2, … failures in a row; the last one stands for all that follow.
 * @property {number} jitter_ms Least width of the random part: a hundred clients that lose their server at once come back over more than 5 s.
 * @property {number} attempts Most attempts in a window.
 * @property {number} window_ms The server counts five a minute by arrival; one second more allows for an attempt that was slow to arrive.
 */

/** @type {Readonly<BackoffNumbers>} The numbers that clients keep unless options replace them. */
export const BACKOFF = {
  steps_ms: [1000, 2000, 4000, 8000, 16000, 32000],
  jitter_ms: 6000,
  attempts: 5,
  window_ms: 61000,
};

/**
 * Return how long to wait before the next attempt.
 *
 * @param {BackoffNumbers} rule
 * @param {number} failures Attempts that failed since the connection was last open; below 0 counts as 0.
 * @param {number} random A number in [0, 1), new for each call.
 * @param {number} [retryAfterMs] What the server asked for, from now.
 * @param {number} [nowMs] The time now, on the clock of `earlierMs`.
 * @param {readonly number[]} [earlierMs] When the earlier attempts began, oldest first.
 * @returns {number} Milliseconds from now, 0 or more.
 */
export function delayMs(rule, failures, random, retryAfterMs = 0, nowMs = 0, earlierMs = []) {
  const step = rule.steps_ms[Math.max(0, failures)] ?? rule.steps_ms.at(-1) ?? 0;
  const wait = Math.max(step, retryAfterMs) + Math.floor(random * Math.max(step, rule.jitter_ms));
  return wakeMs(rule, wait, nowMs, earlierMs);
}

/**
 * Return how long to wait when there is a reason to try at once: the first `connect()`, the network came back, the page is shown again.
 *
 * @param {BackoffNumbers} rule
 * @param {number} retryAfterMs What is left of what the server asked for.
 * @param {number} nowMs The time now, on the clock of `earlierMs`.
 * @param {readonly number[]} earlierMs When the earlier attempts began, oldest first.
 * @returns {number} Milliseconds from now, 0 or more; 0 is at once.
 */
export function wakeMs(rule, retryAfterMs, nowMs, earlierMs) {
  const first = earlierMs[earlierMs.length - rule.attempts];
  // A clock that stepped back must not make anybody wait longer than a window.
  return Math.max(0, retryAfterMs, first === undefined ? 0 : Math.min(0, first - nowMs) + rule.window_ms);
}
