/** The frames: their types and decoding. The data types are generated from the server's. */

/** @typedef {import('./api-types.js').NewMessage} NewMessage */
/** @typedef {import('./api-types.js').NewThread} NewThread */
/** @typedef {import('./api-types.js').NewAnnotation} NewAnnotation */
/** @typedef {import('./api-types.js').NewReply} NewReply */
/** @typedef {import('./api-types.js').MediaUploaded} MediaUploaded */
/** @typedef {import('./api-types.js').MediaExpired} MediaExpired */
/** @typedef {import('./api-types.js').MemberJoined} MemberJoined */
/** @typedef {import('./api-types.js').MemberLeft} MemberLeft */
/** @typedef {import('./api-types.js').RoleChanged} RoleChanged */
/** @typedef {import('./api-types.js').Deleted} Deleted */
/** @typedef {import('./api-types.js').IdentityChanged} IdentityChanged */
/** @typedef {import('./api-types.js').NewKeys} NewKeys */
/** @typedef {import('./api-types.js').NewRecord} NewRecord */
/** @typedef {import('./api-types.js').KeysLow} KeysLow */
/** @typedef {import('./api-types.js').StateChanged} StateChanged */
/** @typedef {import('./api-types.js').TypingIndicator} TypingIndicator */
/** @typedef {import('./api-types.js').AuthSuccess} AuthSuccess */

/**
 * What every durable event carries beside its type and data.
 *
 * @typedef {object} Numbered
 * @property {string} group_id
 * @property {number} seq Its number in the group, from 1, without holes.
 * @property {number} server_timestamp Milliseconds since the Unix epoch.
 * @property {string} [prev] The hash of the frame before.
 * @property {string} [hash] With `verify`: the hash of this frame. `{seq, hash}` is the position after it.
 * @property {string} [text] With `verify`: the text of this frame, byte for byte; not enumerable.
 */

/**
 * An event of a type that this version does not know, as a newer server sends it: let the last branch of a `switch` pass it by. Its `type` is
 * the server's word; `(unknown)` stands here for all of them, since TypeScript tells a union's members apart by literals alone.
 *
 * @typedef {Numbered & {type: '(unknown)', data: Record<string, unknown>}} OtherEvent
 */

/**
 * A durable event, as the socket and `GET /v1/events` carry it.
 *
 * @typedef {OtherEvent | Numbered & (
 *   | {type: 'new_message', data: NewMessage}
 *   | {type: 'new_thread', data: NewThread}
 *   | {type: 'new_reply', data: NewReply}
 *   | {type: 'new_annotation', data: NewAnnotation}
 *   | {type: 'media_uploaded', data: MediaUploaded}
 *   | {type: 'media_expired', data: MediaExpired}
 *   | {type: 'member_joined', data: MemberJoined}
 *   | {type: 'member_left', data: MemberLeft}
 *   | {type: 'role_changed', data: RoleChanged}
 *   | {type: 'deleted', data: Deleted}
 *   | {type: 'identity_changed', data: IdentityChanged}
 *   | {type: 'new_keys', data: NewKeys}
 *   | {type: 'new_record', data: NewRecord}
 * )} OrbitalEvent
 */

/** @typedef {Extract<OrbitalEvent, {type: 'new_keys'}>} NewKeysEvent */

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

/**
 * @param {unknown} right
 * @param {string} what
 * @returns {asserts right}
 */
function need(right, what) {
  if (!right) throw Error(`no frame: ${what}`);
}

/**
 * Read a frame from the server, as far as a client must know what it makes of it: what is neither of the order nor of the conversation goes
 * to the handlers of its type, and is `ignored` where there are none.
 *
 * @param {unknown} text What the socket gave.
 * @returns {{makes: 'event', frame: Frame & Numbered} | {makes: 'control' | 'ignored', frame: Frame}}
 * @throws {Error} When it is none.
 */
export function parseFrame(text) {
  const frame = JSON.parse(/** @type {string} */ (text));
  const { type, data = {}, seq, group_id, prev } = frame;
  need(type && typeof type === 'string', 'type');
  need(typeof data === 'object' && data && !Array.isArray(data), 'data');
  frame.data = data;
  if (seq === undefined) return { makes: CONTROL.test(type) ? 'control' : 'ignored', frame };
  need(Number.isSafeInteger(seq) && seq > 0, 'seq');
  need(group_id && typeof group_id === 'string', 'group_id');
  need(prev === undefined || /^[\w-]{43}$/.test(prev), 'prev');
  return { makes: 'event', frame };
}

/**
 * Read a frame from the server. It never throws.
 *
 * @param {unknown} text What the socket gave.
 * @returns {Reading}
 */
export function readFrame(text) {
  try {
    const reading = parseFrame(text);
    const { makes, frame } = reading;
    if (makes !== 'ignored') return reading;
    return { makes: frame.type === 'ping' ? 'ping' : EPHEMERAL.test(frame.type) ? 'ephemeral' : makes, frame };
  } catch (cause) {
    return { makes: 'bad', reason: /** @type {Error} */ (cause).message };
  }
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
