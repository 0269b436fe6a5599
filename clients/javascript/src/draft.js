/** Drafts: what can be sent, and its stored form. */
import { OrbitalError, wrap } from './errors.js';
import { uuid } from './uuid.js';

/** @import {Store} from './stores.js' */

/**
 * What can be sent. `timestamp` is the time of `send()` when left out. `if_epoch` is the group's epoch that it was encrypted for: when the
 * group's is higher, the draft is refused with `EPOCH_CHANGED` and dropped, so that it can be encrypted again.
 *
 * @typedef {{type: 'message', encrypted_envelope: string, timestamp?: number, if_epoch?: number}
 *   | {type: 'thread', encrypted_title: string, encrypted_body: string, root_message_id?: string, if_epoch?: number}
 *   | {type: 'reply', thread_id: string, encrypted_body: string, message_id?: string, if_epoch?: number}} Draft
 */

/**
 * A draft that is not yet with the server, as it is kept in the store.
 *
 * @typedef {object} Pending
 * @property {string} key Its `Idempotency-Key`.
 * @property {string} group_id
 * @property {Draft} draft
 * @property {number} created_at Milliseconds since the Unix epoch.
 * @property {number} [tried_at] When it was first sent.
 */

/** @typedef {Pending & {storeKey: string, kept?: Promise<void>, resolve?: (answer: any) => void, reject?: (error: OrbitalError) => void}} Item */

/** Drafts of one millisecond keep their order, */
let count = 0;
/** and so do those between which the clock steps back: no key sorts before an earlier one. */
let latest = 0;

/** @param {string} storeKey Of a draft that an earlier run left: no later draft sorts before it. */
export const notBefore = (storeKey) => {
  latest = Math.max(latest, parseInt(storeKey.slice(7), 10) || 0);
};

/**
 * Make a draft ready to be kept and sent.
 *
 * @param {string} group_id
 * @param {Draft} draft
 * @param {string} [key]
 * @returns {Item}
 * @throws {OrbitalError} `VALIDATION_ERROR` for what no request could carry: it would be tried for ever.
 */
export function makeItem(group_id, draft, key = uuid()) {
  if (!/^[!-~]{1,128}$/.test(key)) throw new OrbitalError('VALIDATION_ERROR', 'a key is 1 to 128 visible ASCII characters');
  const created_at = Date.now();
  latest = Math.max(latest, created_at);
  const storeKey = `outbox:${String(latest).padStart(15, '0')}:${String(count++ % 1e6).padStart(6, '0')}:${key}`;
  try {
    draft = JSON.parse(JSON.stringify(draft));
  } catch (cause) {
    throw wrap('VALIDATION_ERROR', cause);
  }
  if (draft.type === 'message') draft.timestamp ??= created_at;
  return { key, group_id, draft, created_at, storeKey };
}

/**
 * Put a draft into the store, or delete it there. A store that fails is reported as `error`.
 *
 * @param {Store | null | undefined} store
 * @param {{emit: (name: any, ...values: any[]) => void}} events
 * @param {'set' | 'delete'} act
 * @param {Item} item
 * @returns {Promise<void>}
 */
export function keep(store, events, act, item) {
  const before = item.kept;
  const now = async () => {
    // One after the other: a slow store must not bring back what was deleted. The first call is made at once: the page may be gone in a moment.
    if (before) await before;
    try {
      await store?.[act](item.storeKey, strip(item));
    } catch (cause) {
      events.emit('error', wrap('HANDLER', cause));
    }
  };
  return (item.kept = now());
}

/** @param {Item} item @returns {Pending} What is kept of it. */
export const strip = ({ storeKey, kept, resolve, reject, ...pending }) => pending;

export const closedFirst = () => new OrbitalError('CLOSED', 'the client was closed before the server had this draft');
