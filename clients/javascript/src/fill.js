/** Reading the log where the socket does not say: a gap, a second subscription, an application that was slow. Loaded when first used. */
import { wrap } from './errors.js';
import { foreign, readText } from './http.js';
import { MAX_WAITING } from './reader.js';
import { RESET } from './reset.js';
import { after } from './timers.js';
import { readFrame } from './wire.js';

/** @import {Http} from './http.js' */
/** @import {Position, Reader} from './reader.js' */
/** @import {Groups} from './subscription.js' */

/** Events read at a time: the most that the server gives. */
export const PAGE = 1000;
/** The least: 5 envelopes of the largest size that a server takes by default are 2 MB of base64. */
const MIN_PAGE = 5;
/** Waits between tries while the network or the server is away. */
const RETRY_MS = [1000, 2000, 4000, 8000, 16000];

/**
 * A page of a group's events as the stored texts, byte for byte, so that they can be hashed.
 *
 * @typedef {{texts: string[], last_seq: number | undefined, has_more: boolean | undefined}} TextPage `last_seq`: the group's last number; both
 *   are undefined on a server that does not send `X-Last-Seq` and `X-Has-More`.
 */

/**
 * @param {Http} http
 * @param {string} groupId
 * @param {number} afterSeq
 * @param {number} limit
 * @returns {Promise<TextPage>}
 */
export function textPage(http, groupId, afterSeq, limit) {
  const path = `/v1/events?group_id=${encodeURIComponent(groupId)}&after_seq=${afterSeq}&limit=${limit}`;
  return http.request('GET', path, { headers: { Accept: 'application/x-ndjson' } }, async (response) => {
    const { headers } = response;
    if (!headers.get('Content-Type')?.startsWith('application/x-ndjson')) throw foreign(response);
    const last = headers.get('X-Last-Seq');
    const more = headers.get('X-Has-More');
    return {
      texts: (await readText(response)).split('\n').filter(Boolean),
      last_seq: last === null ? undefined : Number(last),
      has_more: more === null ? undefined : more === 'true',
    };
  });
}

/**
 * Look whether the server's log goes on after a position whose hash is known.
 *
 * @param {Http} http
 * @param {string} groupId
 * @param {Position} position
 * @returns {Promise<boolean>}
 */
export async function continues(http, groupId, { seq, hash }) {
  const { texts } = await textPage(http, groupId, seq, 1);
  const [text = ''] = texts;
  const reading = readFrame(text);
  return reading.makes === 'event' && reading.frame.seq === seq + 1 && reading.frame.prev === hash;
}

/**
 * Read a group's log until the reader lacks nothing.
 *
 * @param {Reader} reader
 * @param {Groups} groups
 */
export async function fill(reader, groups) {
  const { subscription } = reader;
  const { groupId: group_id } = subscription;
  let tries = 0;
  let limit = PAGE;

  /**
   * With `verify`: report what proves that the server misbehaves.
   *
   * @param {'skipped' | 'withheld'} kind
   * @param {number} expected
   * @param {number} found
   */
  const accuse = (kind, expected, found) => groups.chains && groups.accuse({ kind, group_id, seq: expected, expected, found }, [reader]);

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
      ({ texts } = await textPage(groups.face.http, group_id, last, limit));
      limit = Math.min(PAGE, limit * 2);
    } catch (cause) {
      const error = wrap('NETWORK', cause);
      failed = true;
      // A page that a slow line does not bring within the time-out would not come the next time either.
      limit = Math.max(MIN_PAGE, limit >> 2);
      if (error.code === 'GONE') {
        const oldest = error.details.oldest_seq;
        if (oldest <= last + 1) accuse('withheld', last + 1, oldest);
        if (!subscription.closed) reader.reset(RESET.GONE);
      } else if (!error.retryable && error.code !== 'UNAUTHORIZED') reader.finish(error);
    }
    // It was closed or reset meanwhile.
    if (subscription.closed || reader.cursor !== cursor) continue;
    for (const text of texts) {
      const reading = readFrame(text);
      if (reading.makes !== 'event' || subscription.closed) continue;
      const { frame } = reading;
      // A log with a hole in it cannot be waited for.
      if (reader.cursor.last < frame.seq - 1) {
        if (accuse('skipped', reader.cursor.last + 1, frame.seq)) break;
        reader.reset(RESET.HOLE, frame.seq - 1);
      }
      reader.accept(frame, text);
    }
    for (const [frame, text] of reader.held.splice(0)) reader.offer(frame, text);
    if (reader.cursor !== cursor || cursor.last > last) tries = 0;
    else if (failed || tries < RETRY_MS.length) await pause(reader, RETRY_MS[Math.min(tries++, RETRY_MS.length - 1)]);
    else if (!accuse('skipped', last + 1, reader.head)) reader.reset(RESET.NOT_IN_LOG);
  }
}

/**
 * @param {Reader} reader
 * @param {number} [ms] Left out: until there is room.
 */
function pause(reader, ms) {
  return new Promise((resolve) => {
    const timer = ms && after(ms, () => resolve(0));
    reader.wake = () => {
      // With more room, a wait for the server is none the shorter.
      if (ms && !reader.subscription.closed) return;
      clearTimeout(timer);
      resolve(0);
    };
  });
}
