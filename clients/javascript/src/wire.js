/** The frames: their types, and what a client makes of one. */

/** @typedef {{message_id: string, conversation_id: string, encrypted_envelope: string, server_timestamp: number, sender_id?: string}} NewMessage */
/** @typedef {{thread_id: string, group_id: string, author_id: string, author_username: string, encrypted_title: string, encrypted_body: string, created_at: string}} NewThread */
/** @typedef {{reply_id: string, thread_id: string, author_id: string, author_username: string, encrypted_body: string, created_at: string}} NewReply */
/** @typedef {{media_id: string, thread_id: string, author_id: string, encrypted_metadata: string, size_bytes: number, expires_at: string}} MediaUploaded */
/** @typedef {{media_id: string, thread_id: string, expired_at: string}} MediaExpired */
/** @typedef {{group_id: string, user_id: string, username: string, joined_at: string}} MemberJoined */
/** @typedef {{group_id: string, user_id: string, username: string, left_at: string, reason: 'left' | 'removed'}} MemberLeft */
/** @typedef {{thread_id: string, user_id: string, username: string, is_typing: boolean}} TypingIndicator */
/** @typedef {{user_id: string, username: string, connected_at: string, session_id?: string, heartbeat_seconds?: number, max_frame_bytes?: number, expires_at?: string}} AuthSuccess */

/**
 * What every durable event carries beside its type and data.
 *
 * @typedef {object} Numbered
 * @property {string} group_id
 * @property {number} seq Its number in the group, from 1, without holes.
 * @property {number} server_timestamp Milliseconds since the Unix epoch.
 * @property {string} [prev] The hash of the frame before.
 */

/**
 * A durable event, as the socket and `GET /v1/events` carry it. A newer server may send types that are not listed here;
 * let the last branch of a `switch` pass them by.
 *
 * @typedef {Numbered & (
 *   | {type: 'new_message', data: NewMessage}
 *   | {type: 'new_thread', data: NewThread}
 *   | {type: 'new_reply', data: NewReply}
 *   | {type: 'media_uploaded', data: MediaUploaded}
 *   | {type: 'media_expired', data: MediaExpired}
 *   | {type: 'member_joined', data: MemberJoined}
 *   | {type: 'member_left', data: MemberLeft}
 * )} OrbitalEvent
 */

/**
 * Any frame, before it is known which.
 *
 * @typedef {object} Frame
 * @property {string} type
 * @property {Record<string, any>} data
 * @property {number} [server_timestamp]
 * @property {string} [group_id]
 * @property {number} [seq]
 * @property {string} [prev]
 * @property {string | number} [reply_to]
 */

/**
 * What a frame makes: an event of the order, something without a place in it, a part of the conversation, nothing that we
 * know, or no frame at all.
 *
 * @typedef {{makes: 'event', frame: Frame & Numbered}
 *   | {makes: 'ephemeral' | 'ping' | 'control' | 'ignored', frame: Frame}
 *   | {makes: 'bad', reason: string}} Reading
 */

const EPHEMERAL = /^(new_(message|thread|reply)|media_(uploaded|expired)|member_(joined|left)|typing_indicator)$/;
const CONTROL = /^(auth_success|(un)?subscribed|error|token_expiring|authenticated|posted)$/;

/** @param {string} reason What it should be, or the member that is wrong. @returns {Reading} */
const bad = (reason) => ({ makes: 'bad', reason });

/** @param {unknown} value */
const isObject = (value) => typeof value === 'object' && value && !Array.isArray(value);

/**
 * Read a frame from the server. It never throws.
 *
 * @param {unknown} text What the socket gave.
 * @returns {Reading}
 */
export function readFrame(text) {
  if (typeof text !== 'string') return bad('text');
  /** @type {any} */
  let frame;
  try {
    frame = JSON.parse(text);
  } catch {
    return bad('JSON');
  }
  if (!isObject(frame)) return bad('object');
  const { type, data = {}, seq, group_id, prev } = frame;
  if (typeof type !== 'string' || !type) return bad('type');
  if (!isObject(data)) return bad('data');
  frame.data = data;
  if (seq !== undefined) {
    if (!Number.isSafeInteger(seq) || seq < 1) return bad('seq');
    if (typeof group_id !== 'string' || !group_id) return bad('group_id');
    if (prev !== undefined && !/^[\w-]{43}$/.test(prev)) return bad('prev');
    return { makes: 'event', frame };
  }
  return { makes: type === 'ping' ? type : CONTROL.test(type) ? 'control' : EPHEMERAL.test(type) ? 'ephemeral' : 'ignored', frame };
}

/**
 * Make a frame to the server.
 *
 * @param {string} type
 * @param {object} data
 * @param {number} [now_ms]
 */
export const makeFrame = (type, data, now_ms = Date.now()) => ({ type, data, timestamp: now_ms });

/** @param {number} [now_ms] The answer to a ping. */
export const pong = (now_ms = Date.now()) => makeFrame('pong', { client_time: now_ms }, now_ms);
