/** The content of events: decrypting it, checking it against the event that carries it, and reading later what waits for its key. */
import { equal, fromBase64, toHex } from './bytes.js';
import { E2eeError, isCode } from './errors.js';
import { KINDS, readContent } from './formats/content.js';
import { readEnvelope } from './formats/envelope.js';
import { readSenderKeyMessage } from './formats/sender-key.js';
import { checkHead } from './heads.js';
import { readPast } from './keys.js';
import { onContent } from './receiver.js';
import { dropChain, outbox, stopSending, warn } from './state.js';
import { ordered } from './unit.js';

/** @import { Bytes } from './bytes.js' */
/** @import { Content } from './formats/content.js' */
/** @import { SenderKeyMessage } from './formats/sender-key.js' */
/** @import { Context, DraftRow, LogEvent, OwnChain, Sealed } from './state.js' */
/** @import { Unit } from './unit.js' */

/**
 * The encrypted fields of each event, the kind of content that each must hold, and where its context stands: in a field of the event, in the part
 * before it (`shared`), or nowhere (`free`).
 *
 * @type {Readonly<Record<string, {author: string, parts: readonly {field: string, kind: number, context: string}[]}>>}
 */
export const CONTENT_EVENTS = Object.freeze({
  new_message: { author: 'sender_id', parts: [{ field: 'encrypted_envelope', kind: KINDS.message, context: 'free' }] },
  new_thread: {
    author: 'author_id',
    parts: [
      { field: 'encrypted_title', kind: KINDS.title, context: 'free' },
      { field: 'encrypted_body', kind: KINDS.body, context: 'shared' },
    ],
  },
  new_reply: { author: 'author_id', parts: [{ field: 'encrypted_body', kind: KINDS.reply, context: 'thread_id' }] },
  media_uploaded: { author: 'author_id', parts: [{ field: 'encrypted_metadata', kind: KINDS.media, context: 'media_id' }] },
  new_annotation: { author: 'author_id', parts: [{ field: 'encrypted_body', kind: KINDS.annotation, context: 'target_id' }] },
});

/**
 * What became of an event's content.
 *
 * @typedef {'read' | 'waiting' | 'unreadable' | 'misplaced' | 'wrong_sender' | 'repeated' | 'too_far_ahead' | 'other_version' | 'own_lost' | 'no_key'} ItemStatus
 */
/**
 * @typedef {object} Item
 * @property {string} group
 * @property {number} seq
 * @property {string} hash Of the frame.
 * @property {string} type
 * @property {ItemStatus} status
 * @property {string} author
 * @property {number | null} device Null while it is not known.
 * @property {Record<string, unknown>} data The event's own fields, the encrypted ones left out.
 * @property {{kind: number, body: Bytes, at: number}[]} parts Empty unless the status is `read`.
 * @property {string | null} via Who gave the chain, when its owner is not proven.
 */
/** @typedef {{seq: number, event: LogEvent, author: string, distribution: string, asked: number, since: number | null, ended: boolean}} Waiting */

/** @typedef {{field: string, bytes: Bytes, message: SenderKeyMessage}} Part */

/** @param {LogEvent} event @returns {Part[] | 'unreadable' | 'other_version'} The parsed messages of an event's encrypted fields. */
function parseParts(event) {
  const { parts } = /** @type {typeof CONTENT_EVENTS[string]} */ (CONTENT_EVENTS[event.type]);
  try {
    return parts.map(({ field }) => {
      const { content } = readEnvelope(fromBase64(String(event.data[field])));
      if (!content) throw new E2eeError('malformed', `${field} holds no content`);
      return { field, bytes: content, message: readSenderKeyMessage(content) };
    });
  } catch (error) {
    return isCode(error, 'unsupported') ? 'other_version' : 'unreadable';
  }
}

/** @param {LogEvent} event @param {string} author @param {ItemStatus} status @returns {Item} */
function itemOf(event, author, status) {
  const { parts } = /** @type {typeof CONTENT_EVENTS[string]} */ (CONTENT_EVENTS[event.type]);
  const data = Object.fromEntries(Object.entries(event.data).filter(([name]) => !parts.some(({ field }) => field === name)));
  const { group_id: group, seq, hash, type } = event;
  return { group, seq, hash, type, status, author, device: null, data, parts: [], via: null };
}

/** @param {{group: string, seq: number}} item @returns {string} Its key in `items` and `unhandled`. */
export const itemKey = ({ group, seq }) => `${group}/${ordered(seq)}`;
/** @param {Unit} unit @param {Item} item */
const putItem = (unit, item) => unit.put('items', itemKey(item), item);

/** @param {Unit} unit @param {Context} cx @param {LogEvent} event One of CONTENT_EVENTS. */
export async function takeContent(unit, cx, event) {
  const group = event.group_id;
  const author = String(event.data[/** @type {any} */ (CONTENT_EVENTS[event.type]).author]);
  const parsed = parseParts(event);
  if (typeof parsed === 'string') {
    putItem(unit, itemOf(event, author, parsed));
    if (parsed === 'unreadable') warn(unit, cx, { group, seq: event.seq, code: parsed, user: author, device: 0, details: {} });
    return;
  }
  const outcome = await readParts(unit, cx, event, author, parsed);
  if (outcome !== 'wait') return;
  putItem(unit, itemOf(event, author, 'waiting'));
  const distribution = toHex(/** @type {Part} */ (parsed[0]).message.distribution);
  /** @type {Waiting} */
  const row = { seq: event.seq, event, author, distribution, asked: 0, since: null, ended: false };
  unit.put('waiting', `${group}/${ordered(event.seq)}`, row);
  await readPast(unit, cx, group, distribution, readScratch);
}

/**
 * Read all parts of an event, or none: the ratchet moves only when every part is read.
 *
 * @param {Unit} unit
 * @param {Context} cx
 * @param {LogEvent} event
 * @param {string} author
 * @param {Part[]} parts
 * @returns {Promise<'done' | 'wait'>}
 */
async function readParts(unit, cx, event, author, parts) {
  const group = event.group_id;
  const trial = unit.fork();
  /** @type {Content[]} */
  const contents = [];
  let device = 0;
  /** @param {ItemStatus} status @param {string} [code] */
  const refuse = (status, code = status) => {
    putItem(unit, itemOf(event, author, status));
    warn(unit, cx, { group, seq: event.seq, code, user: author, device, details: {} });
    return /** @type {const} */ ('done');
  };
  for (const { bytes, message } of parts) {
    const id = toHex(message.distribution);
    const pinned = await trial.get('distributions', id);
    if (pinned?.own && pinned.group === group && author === cx.me.user) return takeOwn(unit, cx, event, parts, pinned.chainName);
    const row = onContent(pinned, { author, group, iteration: message.iteration });
    if (row.does === 'wait') return 'wait';
    device = pinned.device;
    if (row.does === 'warn') return refuse(/** @type {ItemStatus} */ (row.warning));
    try {
      const plain = await cx.ratchet.decrypt(trial, pinned, message, bytes);
      trial.put('distributions', id, { ...pinned, last: Math.max(pinned.last, message.iteration + 1) });
      contents.push(readContent(plain));
    } catch (error) {
      if (isCode(error, 'repeated')) return refuse('repeated');
      if (isCode(error, 'too_far_ahead')) return refuse('too_far_ahead');
      if (!(error instanceof E2eeError)) throw error;
      return refuse('unreadable', error.code === 'bad_signature' ? 'bad_signature' : 'unreadable');
    }
  }
  return accept(unit, cx, event, author, contents, { trial, device, via: null, refuse });
}

/**
 * Check decrypted contents against the event that carried them, and write the item.
 *
 * @param {Unit} unit
 * @param {Context} cx
 * @param {LogEvent} event
 * @param {string} author
 * @param {Content[]} contents
 * @param {{trial: Unit, device: number, via: string | null, refuse: (status: ItemStatus) => 'done'}} how
 * @returns {Promise<'done'>}
 */
async function accept(unit, cx, event, author, contents, { trial, device, via, refuse }) {
  const group = event.group_id;
  unit.merge(trial);
  if (!isInPlace(event, contents)) return refuse('misplaced');
  for (const { nonce } of contents) {
    const key = `${group}/${author}/${toHex(nonce)}`;
    if (await unit.get('nonces', key)) return refuse('repeated');
    unit.put('nonces', key, event.seq);
  }
  const item = { ...itemOf(event, author, 'read'), device, via, parts: contents.map(({ kind, body, at }) => ({ kind, body, at })) };
  putItem(unit, item);
  if (cx.inbox) unit.put('unhandled', itemKey(item), event.seq);
  for (const { headSeq, headHash } of contents) {
    if (headSeq === undefined || headHash === undefined) continue;
    const kept = cx.keepFrames && (await unit.get('frames', itemKey(item)));
    if (kept) unit.put('frames', itemKey(item), { ...kept, heads: [...kept.heads, [headSeq, toHex(headHash)]] });
    const fork = await checkHead(unit, group, headSeq, headHash, author);
    if (fork) await stopSending(unit, cx, group, fork);
  }
  return 'done';
}

/** @param {LogEvent} event @param {Content[]} contents @returns {boolean} Whether kind, group and context are the event's. */
function isInPlace(event, contents) {
  const { parts } = /** @type {typeof CONTENT_EVENTS[string]} */ (CONTENT_EVENTS[event.type]);
  return contents.every((content, at) => {
    const { kind, context } = /** @type {{kind: number, context: string}} */ (parts[at]);
    if (content.kind !== kind || content.group !== event.group_id) return false;
    if (context === 'free') return true;
    if (context === 'shared') return equal(content.context, /** @type {Content} */ (contents[0]).context);
    return toHex(content.context) === String(event.data[context]).replace(/-/g, '');
  });
}

/**
 * An own event came back: the plaintext is in the outbox, and the log must not be ahead of the store.
 *
 * @param {Unit} unit
 * @param {Context} cx
 * @param {LogEvent} event
 * @param {Part[]} parts
 * @param {string} chainName
 * @returns {Promise<'done'>}
 */
async function takeOwn(unit, cx, event, parts, chainName) {
  const group = event.group_id;
  const first = /** @type {Part} */ (parts[0]).message;
  const key = `${group}/${chainName}`;
  const ownNonce = `${group}/own/${toHex(first.distribution)}/${first.iteration}`;
  const own = /** @type {OwnChain | undefined} */ (await unit.get('own', key));
  if (own?.distribution && equal(own.distribution, first.distribution) && first.iteration >= own.count) {
    const details = { iteration: first.iteration, stored: own.count };
    warn(unit, cx, { group, seq: event.seq, code: 'old_copy', ...cx.me, details });
    await dropChain(unit, cx, key);
  }
  const found = await sentRow(unit, group, { distribution: toHex(first.distribution), iteration: first.iteration });
  if (found && parts.every(({ field }) => event.data[field] === found.sealed.body[field])) {
    const { row } = found;
    for (const key of [found.key, ...[...(row.tried ?? []), found.sealed].map((one) => outbox.postedKey(group, one))])
      unit.delete('outbox', key);
    unit.put('nonces', ownNonce, event.seq);
    const item = { ...itemOf(event, cx.me.user, 'read'), device: cx.me.device };
    putItem(unit, { ...item, parts: row.parts.map(({ kind, body }) => ({ kind, body, at: row.at })) });
    return 'done';
  }
  if (await unit.get('nonces', ownNonce)) {
    putItem(unit, { ...itemOf(event, cx.me.user, 'repeated'), device: cx.me.device });
    warn(unit, cx, { group, seq: event.seq, code: 'repeated', ...cx.me, details: {} });
    return 'done';
  }
  // Sent from an older copy of this store, or not what was sent.
  putItem(unit, { ...itemOf(event, cx.me.user, 'own_lost'), device: cx.me.device });
  return 'done';
}

/**
 * Find the outbox's row of an own event: posted, or still a draft when the answer to its post did not come yet. Any tab may have taken the draft over,
 * at any place of its line, and any tab may see the event first.
 *
 * @param {Unit} unit
 * @param {string} group
 * @param {{distribution: string, iteration: number}} sent
 * @returns {Promise<{key: string, row: DraftRow, sealed: Sealed} | null>}
 */
async function sentRow(unit, group, sent) {
  const key = outbox.postedKey(group, sent);
  const posted = /** @type {DraftRow | undefined} */ (await unit.get('outbox', key));
  if (posted?.sealed) return { key, row: posted, sealed: posted.sealed };
  for (const [at, row] of /** @type {[string, DraftRow][]} */ (await unit.list('outbox', outbox.drafts(group))))
    for (const sealed of [...(row.tried ?? []), ...(row.sealed ? [row.sealed] : [])])
      if (sealed.distribution === sent.distribution && sealed.iteration === sent.iteration) return { key: at, row, sealed };
  return null;
}

/**
 * Try the waiting events of a distribution again, oldest first.
 *
 * @param {Unit} unit
 * @param {Context} cx
 * @param {string} group
 * @param {string} distribution Hexadecimal.
 */
export async function readWaiting(unit, cx, group, distribution) {
  for (const [key, row] of /** @type {[string, Waiting][]} */ (await unit.list('waiting', `${group}/`))) {
    if (row.distribution !== distribution || !row.event) continue;
    const parts = parseParts(row.event);
    if (typeof parts === 'string') continue;
    if ((await readParts(unit, cx, row.event, row.author, parts)) === 'done') unit.delete('waiting', key);
  }
  await readPast(unit, cx, group, distribution, readScratch);
}

/**
 * Read one waiting event with chains that were shared as history.
 *
 * @param {Unit} unit
 * @param {Context} cx
 * @param {Waiting} row
 * @param {{decrypt: (message: SenderKeyMessage) => Promise<Bytes>, user: string, device: number, via: string | null}} past
 * @returns {Promise<boolean>} Whether the event is done with.
 */
async function readScratch(unit, cx, row, { decrypt, user, device, via }) {
  const parts = parseParts(row.event);
  if (typeof parts === 'string' || row.author !== user) return false;
  /** @type {Content[]} */
  const contents = [];
  try {
    for (const { message } of parts) contents.push(readContent(await decrypt(message)));
  } catch (error) {
    if (!(error instanceof E2eeError)) throw error;
    return false;
  }
  const refuse = (/** @type {ItemStatus} */ status) => {
    putItem(unit, itemOf(row.event, row.author, status));
    warn(unit, cx, { group: row.event.group_id, seq: row.seq, code: status, user, device, details: {} });
    return /** @type {const} */ ('done');
  };
  await accept(unit, cx, row.event, row.author, contents, { trial: unit.fork(), device, via, refuse });
  return true;
}
