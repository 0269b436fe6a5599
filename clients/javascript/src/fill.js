/** Reading the log where the socket does not tell: a gap, a second subscription, an application that was slow. Loaded when first used. */
import { wrap } from './errors.js';
import { readFrame } from './wire.js';

/** @import {Cursor} from './cursor.js' */
/** @import {OrbitalError} from './errors.js' */
/** @import {Http} from './http.js' */
/** @import {Frame, Numbered} from './wire.js' */

/** Events read at a time: the most that the server gives. */
export const PAGE = 1000;
/** Waits between tries while the network or the server is away. */
const RETRY_MS = [1000, 2000, 4000, 8000, 16000];

/**
 * Whoever lacks events.
 *
 * @typedef {object} Reader
 * @property {() => Cursor | undefined} wanted Where it stands, while something is missing; another cursor after a reset.
 * @property {() => boolean} room Whether it can take more now.
 * @property {(ms?: number) => Promise<unknown>} pause So long; left out, until there is room. Ends early when nothing is wanted any more.
 * @property {(frame: Frame & Numbered, text: string) => unknown} offer
 * @property {() => void} again Offer what came over the socket meanwhile.
 * @property {(reason: string, seq?: number) => void} reset What follows is gone, up to `seq` or the end.
 * @property {(error: OrbitalError) => void} finish
 */

/**
 * Read a group's log until the reader lacks nothing.
 *
 * @param {Http} http
 * @param {string} groupId
 * @param {Reader} reader
 */
export async function fill(http, groupId, reader) {
  let tries = 0;
  for (let cursor; (cursor = reader.wanted()); ) {
    if (!reader.room()) {
      await reader.pause();
      continue;
    }
    const { last } = cursor;
    /** @type {string[]} */
    let texts = [];
    let failed = false;
    try {
      texts = await http.eventTexts(groupId, last, PAGE);
    } catch (cause) {
      const error = wrap('NETWORK', cause);
      failed = true;
      if (error.code === 'GONE') reader.reset(error.message);
      else if (!error.retryable && error.code !== 'UNAUTHORIZED') reader.finish(error);
    }
    // It was closed, was reset, or has heard the rest meanwhile.
    if (reader.wanted() !== cursor) continue;
    for (const text of texts) {
      const reading = readFrame(text);
      if (reading.makes !== 'event') continue;
      const { frame } = reading;
      // A log with a hole in it cannot be waited for.
      if ((reader.wanted() ?? cursor).last < frame.seq - 1) reader.reset('a hole in the log', frame.seq - 1);
      reader.offer(frame, text);
    }
    reader.again();
    if (reader.wanted() !== cursor || cursor.last > last) tries = 0;
    else if (failed || tries < RETRY_MS.length) await reader.pause(RETRY_MS[Math.min(tries++, RETRY_MS.length - 1)]);
    else reader.reset('not in the log');
  }
}
