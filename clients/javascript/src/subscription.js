/** All groups of one connection: who receives them, and what was asked of the server. */
import { OrbitalError, wrap } from './errors.js';
import { parts } from './parts.js';
import { makeReader, readPosition } from './reader.js';
import { after } from './timers.js';
import { makeFrame } from './wire.js';

/** @import {Face} from './base-client.js' */
/** @import {Position, Reader, SubscribeOptions, Subscription, Violation} from './reader.js' */
/** @import {Store} from './stores.js' */
/** @import {Frame, Numbered} from './wire.js' */

/** Groups in one `subscribe` frame: with position and hash 180 bytes each, far below the 64 KiB of a frame. */
const GROUPS_A_FRAME = 200;
/** Before groups are asked for again that the server could not look at. */
const RETRY_MS = 2000;

/**
 * One group on the socket of now.
 *
 * @typedef {object} Entry
 * @property {Set<Reader>} readers
 * @property {boolean} asked
 * @property {Position | undefined} [from] What `since` was asked.
 * @property {number | undefined} [wire] The last number that the socket is known to have passed; undefined before it is subscribed.
 * @property {boolean} [left] The socket passed our own `member_left`.
 */

/**
 * All groups of one connection. It never keeps an event.
 *
 * @typedef {object} Groups
 * @property {Face} face
 * @property {Store | null | undefined} store
 * @property {typeof import('./chain.js')} [chains] Loaded when chains are to be verified.
 * @property {(groupId: string, options: SubscribeOptions) => Subscription} subscribe
 * @property {(reader: Reader) => void} remove
 * @property {() => void} opened A new socket is open: ask for every group again, each from where it stands.
 * @property {(error?: OrbitalError) => void} close End every subscription.
 * @property {(violation: Violation, readers: Iterable<Reader>) => boolean} accuse Report a violation; returns whether it ended the readers.
 * @property {(reader: Reader, before: Position) => Promise<void>} judge The server said that what follows `before` is gone: look whether its log has it.
 * @property {(frame: Frame & Numbered, text: string) => boolean} heard A numbered event came over the socket; returns whether anybody here receives its group.
 * @property {(frame: Frame) => void} control A frame of the conversation came.
 */

/**
 * @param {Face} face
 * @param {{store?: Store | null | undefined, verify?: boolean | 'throw' | undefined}} options
 * @returns {Groups}
 */
export function makeGroups(face, { store, verify }) {
  const { connection } = face;
  /** @type {Map<string, Entry>} */
  const entries = new Map();
  /** How often everything was closed. */
  let closings = 0;
  /** @type {OrbitalError | undefined} Why everything was closed the last time. */
  let closedBy;
  /** @type {string | undefined} Our own id. */
  let self;

  /** Ask for what was not asked for on this socket; called at the end of a tick, so that many make one frame. */
  const ask = () => {
    const ids = [...entries.keys()].filter((id) => !entries.get(id)?.asked);
    for (let at = 0; at < ids.length; at += GROUPS_A_FRAME) {
      const group_ids = ids.slice(at, at + GROUPS_A_FRAME);
      /** @type {Record<string, number | Position> | undefined} */
      let since;
      for (const id of group_ids) {
        const entry = /** @type {Entry} */ (entries.get(id));
        const [from] = [...entry.readers].flatMap((reader) => reader.reached() ?? []).sort((a, b) => a.seq - b.seq);
        entry.asked = true;
        entry.from = from;
        if (from) (since ??= {})[id] = from.hash && from.seq ? from : from.seq;
      }
      connection.ask({ group_ids, since });
    }
  };

  /** @param {Reader} reader */
  const add = async (reader) => {
    const before = closings;
    try {
      // Without its rule nothing can be verified, and unverified is not what was asked for.
      if (verify) groups.chains = await parts.chain();
      await reader.start();
    } catch (cause) {
      return reader.finish(wrap('NETWORK', cause));
    }
    const { groupId, closed } = reader.subscription;
    if (closed) return;
    // Closed while its position was looked up.
    if (before !== closings) return reader.finish(closedBy);
    let entry = entries.get(groupId);
    if (!entry) entries.set(groupId, (entry = { readers: new Set(), asked: false }));
    entry.readers.add(reader);
    if (entry.wire !== undefined) reader.answered(entry.wire, true);
    queueMicrotask(ask);
  };

  /** @type {Groups} */
  const groups = {
    face,
    store,
    subscribe(groupId, options) {
      if (options.since !== undefined) readPosition(options.since, 'since');
      const reader = makeReader(groups, groupId, options);
      void add(reader);
      return reader.subscription;
    },
    remove(reader) {
      const { groupId } = reader.subscription;
      const entry = entries.get(groupId);
      if (!entry?.readers.delete(reader) || entry.readers.size) return;
      entries.delete(groupId);
      connection.send(makeFrame('unsubscribe', { group_ids: [groupId] }));
    },
    opened() {
      for (const entry of entries.values()) {
        entry.wire = undefined;
        entry.asked = false;
      }
      ask();
    },
    close(error) {
      closings++;
      closedBy = error;
      for (const { readers } of entries.values())
        for (const { subscription, finish } of readers) error ? finish(error) : subscription.close();
    },
    accuse(violation, readers) {
      face.emit('violation', violation);
      if (verify !== 'throw') return false;
      const { kind, group_id, seq } = violation;
      const error = new OrbitalError(
        'CHAIN_BROKEN',
        `the server's events of group ${group_id} do not fit together at number ${seq}: ${kind}`,
        { details: violation },
      );
      for (const reader of [...readers]) reader.finish(error);
      return true;
    },
    async judge(reader, before) {
      const { groupId: group_id } = reader.subscription;
      const { seq, hash = null } = before;
      try {
        if (!(await (await parts.fill()).continues(face.http, group_id, before))) return;
      } catch {
        // The log could not be read: nothing is proven.
        return;
      }
      groups.accuse({ kind: 'withheld', group_id, seq: seq + 1, expected: hash, found: null }, [reader]);
    },
    heard(frame, text) {
      const { group_id, seq } = frame;
      const entry = entries.get(group_id);
      if (!entry) return false;
      const expected = (entry.wire ?? seq - 1) + 1;
      if (groups.chains && seq !== expected) groups.accuse(groups.chains.misplaced(group_id, seq, expected), entry.readers);
      entry.wire = Math.max(expected - 1, seq);
      entry.left = frame.type === 'member_left' && frame.data.user_id === self;
      for (const { offer } of [...entry.readers]) offer(frame, text);
      return true;
    },
    control({ type, data }) {
      if (type === 'auth_success') self = data.user_id;
      const { code, message, reason, group_ids = [] } = data;
      const error = type === 'error' ? new OrbitalError(code, message, { details: data }) : undefined;
      if (error && !group_ids.length) face.emit('error', error);
      for (const id of group_ids) {
        const entry = entries.get(id);
        if (!entry) continue;
        const readers = [...entry.readers];
        // A server of the older protocol does not say where a group stands.
        const { seq, recovered = true } = data.groups?.[id] ?? {};
        if (seq !== undefined) {
          if (!Number.isSafeInteger(seq) || seq < 0) throw Error(`no frame: the group's seq is ${seq}`);
          const from = recovered ? entry.from?.seq : undefined;
          entry.wire = from ?? seq;
          for (const reader of readers) reader.answered(seq, recovered, from);
        } else if (error?.retryable) {
          entry.asked = false;
          after(RETRY_MS, ask);
        } else if (error) for (const reader of readers) reader.finish(error);
        else if (/left|removed/.test(reason)) {
          // Our own member_left stands right before it: without it somebody only says so.
          const proven = entry.left || !groups.chains;
          if (!proven) groups.accuse({ kind: 'left', group_id: id, seq: (entry.wire ?? 0) + 1, expected: null, found: reason }, readers);
          for (const reader of readers)
            reader.finish(proven && reason === 'left' ? undefined : new OrbitalError('FORBIDDEN', 'no longer a member'));
        }
      }
    },
  };

  return groups;
}
