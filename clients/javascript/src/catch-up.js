/** Catch-up (replay) from the log: after a gap, for a second subscription, for a slow application. Loaded when first used. */
import { wrap } from './errors.js';
import { PAGE, textPage } from './log.js';
import { RESET } from './reset.js';
import { MAX_WAITING } from './subscription.js';
import { after } from './timers.js';
import { readFrame } from './wire.js';

/** @import {Cursor} from './cursor.js' */
/** @import {OrbitalError} from './errors.js' */
/** @import {Http} from './http.js' */
/** @import {ResetReason} from './reset.js' */
/** @import {Subscription} from './subscription.js' */
/** @import {Verifier} from './verify.js' */
/** @import {Frame, Numbered} from './wire.js' */

/** The least events of one page: 5 envelopes of the largest size that a server accepts by default are 2 MB of base64. */
const MIN_PAGE = 5;
/** Waits between tries while the network or the server is not available. */
const RETRY_MS = [1000, 2000, 4000, 8000, 16000];

/**
 * The reader that is behind; `Reader` is one.
 *
 * @typedef {object} Behind
 * @property {Subscription} subscription
 * @property {Cursor | undefined} cursor After the last event that was received; another one after a reset.
 * @property {number} head The highest number that the group is known to have.
 * @property {unknown[]} waiting
 * @property {[Frame & Numbered, string][]} held Events that arrived too early while the log was being read.
 * @property {() => void} wake Called when there is room again, and at the end.
 * @property {(frame: Frame & Numbered, text: string) => void} offer
 * @property {(frame: Frame & Numbered, text: string) => void} accept
 * @property {(reason: ResetReason, seq?: number) => void} reset
 * @property {(error?: OrbitalError) => void} finish
 */

/**
 * Read a group's log until the reader has received everything up to its head.
 *
 * @param {Behind} reader
 * @param {Http} http
 * @param {Verifier} [verifier]
 */
export async function catchUp(reader, http, verifier) {
  const run = new CatchUp(reader, http, verifier);
  while (run.isBehind) await run.step();
}

class CatchUp {
  #reader;
  #http;
  #verifier;
  /** Tries in a row without an event. */
  #tries = 0;
  #limit = PAGE;

  /** @param {Behind} reader @param {Http} http @param {Verifier} [verifier] */
  constructor(reader, http, verifier) {
    this.#reader = reader;
    this.#http = http;
    this.#verifier = verifier;
  }

  get isBehind() {
    const { cursor, head, subscription } = this.#reader;
    return cursor && cursor.last < head && !subscription.closed;
  }

  /** Read one page, or wait for room. */
  async step() {
    const reader = this.#reader;
    if (reader.waiting.length >= MAX_WAITING) return this.#pause();
    const cursor = /** @type {Cursor} */ (reader.cursor);
    const { last } = cursor;
    const texts = await this.#read(last);
    // It was closed or reset meanwhile.
    if (reader.subscription.closed || reader.cursor !== cursor) return;
    for (const text of texts ?? []) this.#take(text);
    for (const [frame, text] of reader.held.splice(0)) reader.offer(frame, text);
    if (reader.cursor !== cursor || cursor.last > last) this.#tries = 0;
    else if (!texts || this.#tries < RETRY_MS.length) await this.#pause(RETRY_MS[Math.min(this.#tries++, RETRY_MS.length - 1)]);
    else if (!this.#violation('skipped', last + 1, reader.head)) reader.reset(RESET.NOT_IN_LOG);
  }

  /** @param {number} last @returns {Promise<string[] | undefined>} Undefined when the log could not be read. */
  async #read(last) {
    const reader = this.#reader;
    try {
      const { texts } = await textPage(this.#http, reader.subscription.groupId, last, this.#limit);
      this.#limit = Math.min(PAGE, this.#limit * 2);
      return texts;
    } catch (cause) {
      const error = wrap('NETWORK', cause);
      // On a slow connection a page that exceeded the timeout would exceed it again.
      this.#limit = Math.max(MIN_PAGE, this.#limit >> 2);
      if (error.code === 'GONE') {
        const oldest = error.details.oldest_seq;
        if (oldest <= last + 1) this.#violation('withheld', last + 1, oldest);
        if (!reader.subscription.closed) reader.reset(RESET.GONE);
      } else if (!error.retryable && error.code !== 'UNAUTHORIZED') reader.finish(error);
    }
  }

  /** @param {string} text */
  #take(text) {
    const reader = this.#reader;
    const reading = readFrame(text);
    if (reading.makes !== 'event' || reader.subscription.closed || !reader.cursor) return;
    const { frame } = reading;
    // A number that is missing in the log never arrives.
    if (reader.cursor.last < frame.seq - 1) {
      if (this.#violation('skipped', reader.cursor.last + 1, frame.seq)) return;
      reader.reset(RESET.HOLE, frame.seq - 1);
    }
    reader.accept(frame, text);
  }

  /**
   * @param {'skipped' | 'withheld'} kind
   * @param {number} expected
   * @param {number} found
   */
  #violation(kind, expected, found) {
    const { groupId: group_id } = this.#reader.subscription;
    return this.#verifier?.accuse({ kind, group_id, seq: expected, expected, found }, [this.#reader]);
  }

  /** @param {number} [ms] Left out: until there is room. */
  #pause(ms) {
    return new Promise((resolve) => {
      const timer = ms && after(ms, () => resolve(undefined));
      this.#reader.wake = () => {
        // More room does not shorten a wait for the server.
        if (ms && !this.#reader.subscription.closed) return;
        clearTimeout(timer);
        resolve(undefined);
      };
    });
  }
}
