/** The subscriptions of one connection by group: their readers, and their state at the server. */
import { Cursor } from './cursor.js';
import { OrbitalError, wrap } from './errors.js';
import { parts } from './parts.js';
import { Reader } from './reader.js';
import { STEPS } from './subscription-state.js';
import { readPosition } from './subscription.js';
import { after } from './timers.js';
import { makeFrame } from './wire.js';

/** @import {Connection} from './connection.js' */
/** @import {Http} from './http.js' */
/** @import {SubscriptionState, Word} from './subscription-state.js' */
/** @import {Store} from './stores.js' */
/** @import {Position, SubscribeOptions, Subscription} from './subscription.js' */
/** @import {Verifier} from './verify.js' */
/** @import {Frame, Numbered} from './wire.js' */

/** Groups in one `subscribe` frame: with position and hash 180 bytes each, far below the 64 KiB of a frame. */
const GROUPS_A_FRAME = 200;
/** Before groups are asked for again for which the server reported a retryable error. */
const RETRY_MS = 2000;

/**
 * One group on the current socket.
 *
 * @typedef {object} Entry
 * @property {Set<Reader>} readers
 * @property {SubscriptionState} state
 * @property {Position | undefined} [from] The position that `since` asked for.
 * @property {number | undefined} [wire] The last number that the socket is known to have passed; undefined before it is subscribed.
 * @property {boolean} [left] Whether the last event was our own `member_left`.
 */

/** All groups of one connection. It never keeps an event. */
export class Groups {
  /** @type {Verifier | undefined} Loaded when events are to be verified. */
  verifier;

  #verify;
  /** @type {Map<string, Entry>} */
  #entries = new Map();
  /** @type {{error?: OrbitalError | undefined}} The last time that everything was closed. */
  #closing = {};
  /** @type {string | undefined} Our own id. */
  #self;

  /**
   * @param {{http: Http, connection: Connection, emit: (name: any, ...values: any[]) => void}} client
   * @param {{store?: Store | null | undefined, verify?: boolean | 'throw' | undefined}} options
   */
  constructor(client, { store, verify }) {
    this.client = client;
    this.store = store;
    this.#verify = verify;
  }

  // For the client

  /** @param {string} groupId @param {SubscribeOptions} options @returns {Subscription} */
  subscribe(groupId, options) {
    if (options.since !== undefined) readPosition(options.since, 'since');
    const reader = new Reader(this, groupId, options);
    void this.#add(reader);
    return reader.subscription;
  }

  /** A new socket is open: subscribe to every group again, each from its position. */
  opened() {
    for (const entry of this.#entries.values()) {
      entry.wire = undefined;
      move(entry, 'lose');
    }
    this.#ask();
  }

  /** End every subscription. @param {OrbitalError} [error] */
  close(error) {
    this.#closing = { error };
    for (const { readers } of this.#entries.values())
      for (const reader of readers) error ? reader.finish(error) : reader.subscription.close();
  }

  // For the readers

  /** @param {Reader} reader */
  remove(reader) {
    const { groupId } = reader.subscription;
    const entry = this.#entries.get(groupId);
    if (!entry?.readers.delete(reader) || entry.readers.size) return;
    this.#entries.delete(groupId);
    this.client.connection.send(makeFrame('unsubscribe', { group_ids: [groupId] }));
  }

  // From the connection

  /**
   * A numbered event arrived.
   *
   * @param {Frame & Numbered} frame
   * @param {string} text
   * @returns {boolean} Whether its group has a subscription.
   */
  received(frame, text) {
    const { group_id, seq } = frame;
    const entry = this.#entries.get(group_id);
    if (!entry) return false;
    const expected = (entry.wire ?? seq - 1) + 1;
    if (seq !== expected) this.verifier?.misplaced(frame, expected, entry.readers);
    entry.wire = Math.max(expected - 1, seq);
    entry.left = frame.type === 'member_left' && frame.data.user_id === this.#self;
    for (const reader of [...entry.readers]) reader.offer(frame, text);
    return true;
  }

  /** A control frame arrived. @param {Frame} frame */
  control({ type, data }) {
    if (type === 'auth_success') this.#self = data.user_id;
    const { code, message, reason, group_ids = [], groups } = data;
    const error = type === 'error' ? new OrbitalError(code, message, { details: data }) : undefined;
    if (error && !group_ids.length) this.client.emit('error', error);
    for (const id of group_ids) {
      const entry = this.#entries.get(id);
      if (!entry) continue;
      if (type === 'subscribed') this.#confirmed(entry, groups?.[id]);
      else if (error?.retryable) {
        if (move(entry, 'defer')) after(RETRY_MS, () => this.#ask());
      } else if (error) this.#end(entry, 'refuse', error);
      else if (/left|removed/.test(reason)) this.#dismissed(id, entry, reason);
    }
  }

  /** @param {Entry} entry @param {{seq?: number, recovered?: boolean}} [stand] A server of the older protocol does not send it. */
  #confirmed(entry, { seq, recovered = true } = {}) {
    // A cursor throws when it is not a position.
    if (seq !== undefined) new Cursor(seq);
    if (!move(entry, 'confirm') || seq === undefined) return;
    const from = recovered ? entry.from?.seq : undefined;
    entry.wire = from ?? seq;
    for (const reader of [...entry.readers]) reader.answered(seq, recovered, from);
  }

  /** @param {string} group_id @param {Entry} entry @param {string} reason */
  #dismissed(group_id, entry, reason) {
    // The server sends our own member_left right before it: without it nothing proves that we left.
    const lie = !entry.left && this.verifier?.left(group_id, entry.wire, reason, entry.readers);
    this.#end(entry, 'dismiss', !lie && reason === 'left' ? undefined : new OrbitalError('FORBIDDEN', 'not a member'));
  }

  /** @param {Entry} entry @param {Word} word @param {OrbitalError} [error] */
  #end(entry, word, error) {
    if (move(entry, word)) for (const reader of [...entry.readers]) reader.finish(error);
  }

  /** Subscribe to the groups that are `off`; called at the end of a tick, so that many make one frame. */
  #ask() {
    const asked = [...this.#entries].filter(([, entry]) => move(entry, 'ask'));
    for (let at = 0; at < asked.length; at += GROUPS_A_FRAME) {
      /** @type {string[]} */
      const group_ids = [];
      /** @type {Record<string, number | Position> | undefined} */
      let since;
      for (const [id, entry] of asked.slice(at, at + GROUPS_A_FRAME)) {
        const [from] = [...entry.readers].flatMap((reader) => reader.reached() ?? []).sort((a, b) => a.seq - b.seq);
        group_ids.push(id);
        entry.from = from;
        if (from) (since ??= {})[id] = from.hash && from.seq ? from : from.seq;
      }
      this.client.connection.ask({ group_ids, since });
    }
  }

  /** @param {Reader} reader */
  async #add(reader) {
    const before = this.#closing;
    try {
      // With `verify` nothing is delivered before the code that verifies is loaded.
      if (this.#verify && !this.verifier) this.verifier = new (await parts.verify()).Verifier(this.client, this.#verify === 'throw');
      await reader.start();
    } catch (cause) {
      return reader.finish(wrap('NETWORK', cause));
    }
    const { groupId, closed } = reader.subscription;
    if (closed) return;
    // Closed while its position was loaded.
    if (before !== this.#closing) return reader.finish(this.#closing.error);
    let entry = this.#entries.get(groupId);
    if (!entry) this.#entries.set(groupId, (entry = { readers: new Set(), state: 'off' }));
    entry.readers.add(reader);
    if (entry.wire !== undefined) reader.answered(entry.wire, true);
    queueMicrotask(() => this.#ask());
  }
}

/** @param {Entry} entry @param {Word} word @returns {SubscriptionState | undefined} The new one; undefined when the table has no such step. */
function move(entry, word) {
  const next = STEPS[entry.state][word];
  if (next) entry.state = next;
  return next;
}
