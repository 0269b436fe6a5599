/** Verification of a server's events by the hash chain. Loaded when a client is made with `verify`. */
import { Chain, firstPrev, prevOf } from './chain.js';
import { OrbitalError } from './errors.js';
import { continues } from './log.js';
import { digest } from './sha256.js';

/** @import {Http} from './http.js' */
/** @import {Position, Subscription, Violation} from './subscription.js' */
/** @import {Numbered} from './wire.js' */

/** @typedef {{subscription: Subscription, finish: (error?: OrbitalError) => void}} Accuser */

/** Checks what one client receives, and reports each violation. */
export class Verifier {
  #client;
  #ends;

  /**
   * @param {{http: Http, emit: (name: any, ...values: any[]) => void}} client
   * @param {boolean} ends Whether a violation ends the subscription, with `CHAIN_BROKEN`.
   */
  constructor(client, ends) {
    this.#client = client;
    this.#ends = ends;
  }

  /**
   * Begin to verify a group.
   *
   * @param {string} groupId
   * @param {number} seq Number of the last event that the reader has.
   * @param {string} [hash] Its hash, if it is known.
   */
  begin(groupId, seq, hash) {
    return new Chain(seq ? hash : firstPrev(groupId));
  }

  /**
   * Report a violation.
   *
   * @param {Violation} violation
   * @param {Iterable<Accuser>} readers
   * @returns {boolean} Whether it ended the readers.
   */
  accuse(violation, readers) {
    this.#client.emit('violation', violation);
    if (!this.#ends) return false;
    const { kind, group_id, seq } = violation;
    const error = new OrbitalError(
      'CHAIN_BROKEN',
      `the server's events of group ${group_id} do not fit together at number ${seq}: ${kind}`,
      {
        details: violation,
      },
    );
    for (const reader of [...readers]) reader.finish(error);
    return true;
  }

  /**
   * Check an event that is the next one by its number.
   *
   * @param {Chain} chain Moves past the event, whether or not it fits: each break is found once, and what follows is checked against the frame that we have.
   * @param {Numbered} event Gets its `text`.
   * @param {string} text
   * @param {Accuser} reader
   * @returns {boolean} Whether a violation ended the reader.
   */
  check(chain, event, text, reader) {
    // Not enumerable: a copy of an event, or its JSON, does not have everything twice.
    Object.defineProperty(event, 'text', { value: text });
    const { group_id, seq } = event;
    const expected = chain.prev;
    if (chain.offer(text)) return false;
    chain.prev = digest(text);
    return this.accuse({ kind: 'changed', group_id, seq, expected, found: prevOf(text) }, [reader]);
  }

  /**
   * Report that the socket did not send the number that was next.
   *
   * @param {Numbered} event
   * @param {number} expected
   * @param {Iterable<Accuser>} readers
   */
  misplaced({ group_id, seq }, expected, readers) {
    this.accuse({ kind: seq > expected ? 'skipped' : 'repeated', group_id, seq, expected, found: seq }, readers);
  }

  /**
   * Report that the server ended a subscription without the `member_left` that must come before.
   *
   * @param {string} group_id
   * @param {number | undefined} wire The last number that the socket passed.
   * @param {string} found
   * @param {Iterable<Accuser>} readers
   */
  left(group_id, wire, found, readers) {
    this.accuse({ kind: 'left', group_id, seq: (wire ?? 0) + 1, expected: null, found }, readers);
    return true;
  }

  /**
   * The server reported that what follows `before` is gone: report a violation if its log has it.
   *
   * @param {Accuser} reader
   * @param {Position} before
   */
  async judge(reader, before) {
    const { groupId: group_id } = reader.subscription;
    const { seq, hash = null } = before;
    try {
      if (!(await continues(this.#client.http, group_id, before))) return;
    } catch {
      // The log could not be read: nothing is proven.
      return;
    }
    this.accuse({ kind: 'withheld', group_id, seq: seq + 1, expected: hash, found: null }, [reader]);
  }
}
