/** The pure rules, for clients of your own: order and deduplication, chain, back-off, and the decoding of frames. */
export { BACKOFF, delayMs, wakeMs } from './backoff.js';
export { Chain, firstPrev, prevOf } from './chain.js';
export { Cursor } from './cursor.js';
export { Sha256, digest } from './sha256.js';
export { readFrame } from './wire.js';

/**
 * @typedef {import('./backoff.js').BackoffNumbers} BackoffNumbers
 * @typedef {import('./cursor.js').Verdict} Verdict
 * @typedef {import('./wire.js').Reading} Reading
 */
