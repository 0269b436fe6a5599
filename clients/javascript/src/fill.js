/** Reading the log where the socket does not tell: a gap, a second subscription, an application that was slow. Loaded when first used. */
import { wrap } from './errors.js';
import { MAX_WAITING } from './subscription.js';
import { readFrame } from './wire.js';

/** @import {Http} from './http.js' */
/** @import {Reader} from './subscription.js' */

/** Events read at a time: the most that the server gives. */
export const PAGE = 1000;
/** The least: 5 envelopes of the largest size that a server takes by default are 2 MB of base64. */
const MIN_PAGE = 5;
/** Waits between tries while the network or the server is away. */
const RETRY_MS = [1000, 2000, 4000, 8000, 16000];

/**
 * Events of a group as the stored texts, to the letter, so that they can be hashed.
 *
 * @param {Http} http
 * @param {string} groupId
 * @param {number} afterSeq
 * @param {number} limit
 * @returns {Promise<string[]>}
 */
export function eventTexts(http, groupId, afterSeq, limit) {
  const path = `/v1/events?group_id=${encodeURIComponent(groupId)}&after_seq=${afterSeq}&limit=${limit}`;
  return http.request('GET', path, { headers: { Accept: 'application/x-ndjson' } }, async (response) =>
    (await response.text()).split('\n').filter(Boolean),
  );
}

/**
 * Read a group's log until the reader lacks nothing.
 *
 * @param {Reader} reader
 * @param {Http} http
 */
export async function fill(reader, http) {
  const { subscription } = reader;
  let tries = 0;
  let limit = PAGE;
  for (let cursor; (cursor = reader.cursor) && cursor.last < reader.head && !subscription.closed; ) {
    if (reader.waiting.length >= MAX_WAITING) {
      await pause(reader);
      continue;
    }
    const { last } = cursor;
    /** @type {string[]} */
    let texts = [];
    let failed = false;
    try {
      texts = await eventTexts(http, subscription.groupId, last, limit);
      limit = Math.min(PAGE, limit * 2);
    } catch (cause) {
      const error = wrap('NETWORK', cause);
      failed = true;
      // A page that a slow line does not bring within the time-out would not come the next time either.
      limit = Math.max(MIN_PAGE, limit >> 2);
      if (error.code === 'GONE') reader.reset(error.message);
      else if (!error.retryable && error.code !== 'UNAUTHORIZED') reader.finish(error);
    }
    // It was closed or reset meanwhile.
    if (subscription.closed || reader.cursor !== cursor) continue;
    for (const text of texts) {
      const reading = readFrame(text);
      if (reading.makes !== 'event') continue;
      const { frame } = reading;
      // A log with a hole in it cannot be waited for.
      if (reader.cursor.last < frame.seq - 1) reader.reset('a hole in the log', frame.seq - 1);
      reader.accept(frame, text);
    }
    for (const [frame, text] of reader.held.splice(0)) reader.offer(frame, text);
    if (reader.cursor !== cursor || cursor.last > last) tries = 0;
    else if (failed || tries < RETRY_MS.length) await pause(reader, RETRY_MS[Math.min(tries++, RETRY_MS.length - 1)]);
    else reader.reset('not in the log');
  }
}

/**
 * @param {Reader} reader
 * @param {number} [ms] Left out: until there is room.
 */
function pause(reader, ms) {
  return new Promise((resolve) => {
    const timer = ms && setTimeout(resolve, ms);
    reader.wake = () => {
      // With more room, a wait for the server is none the shorter.
      if (ms && !reader.subscription.closed) return;
      clearTimeout(timer);
      resolve(0);
    };
  });
}
