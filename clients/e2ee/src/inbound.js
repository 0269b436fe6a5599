/** Receiving: one event of the log, processed in one transaction with everything that follows from it. */
import { equal, fromBase64 } from './bytes.js';
import { CONTENT_EVENTS, readWaiting, takeContent } from './contents.js';
import { E2eeError } from './errors.js';
import { noteHead } from './heads.js';
import { followRoster, takeKeys } from './keys.js';
import { noteMember } from './newcomers.js';
import { findDevice } from './roster.js';
import { addRecord, dropChain, loadGroup, loadRoster, stopSending, warn } from './state.js';
import { ordered, transact } from './unit.js';

/** @import { Bytes } from './bytes.js' */
/** @import { Context, LogEvent } from './state.js' */
/** @import { Unit } from './unit.js' */

/** Events that change who is in the group, or who may be given keys. */
export const EPOCH_EVENTS = new Set(['member_joined', 'member_left', 'identity_changed', 'new_record']);

/**
 * Process the group's next event.
 *
 * @param {Context} cx
 * @param {LogEvent} event
 * @returns {Promise<'processed' | 'seen'>}
 * @throws {E2eeError} `out_of_order` when it is not the next one, `not_found` for a group that is unknown here.
 */
export const receive = (cx, { text, ...event }) => transact(cx.store, (unit) => processEvent(unit, cx, event, text));

/**
 * @param {Unit} unit
 * @param {Context} cx
 * @param {LogEvent} event Without its text: what waits for its key keeps the fields, and the text would be stored twice.
 * @param {string | undefined} text
 * @returns {Promise<'processed' | 'seen'>}
 */
async function processEvent(unit, cx, event, text) {
  const group = event.group_id;
  const state = await loadGroup(unit, group);
  const { seq, hash } = state.position;
  if (event.seq <= seq) {
    const head = await unit.get('heads', `${group}/${ordered(event.seq)}`);
    if (head?.hash && head.hash !== event.hash)
      await stopSending(unit, cx, group, { code: 'rolled_back', seq: event.seq, ours: head.hash, theirs: event.hash });
    return 'seen';
  }
  if (event.seq !== seq + 1)
    throw new E2eeError('out_of_order', `event ${event.seq} of ${group} is not number ${seq + 1}`, { expected: seq + 1 });

  const left = event.type === 'member_left' ? event.data.user_id : undefined;
  unit.put('groups', group, {
    ...state,
    position: { seq: event.seq, hash: event.hash },
    epoch: EPOCH_EVENTS.has(event.type) ? event.seq : state.epoch,
    removals: state.removals.filter(({ user }) => user !== left),
  });
  if (cx.keepFrames && text !== undefined) unit.put('frames', `${group}/${ordered(event.seq)}`, { text, hash: event.hash, heads: [] });
  if (event.prev !== undefined && hash !== '' && event.prev !== hash)
    await stopSending(unit, cx, group, { code: 'broken_chain', seq: event.seq, ours: hash, theirs: event.prev });
  const fork = await noteHead(unit, group, event.seq, event.hash);
  if (fork) await stopSending(unit, cx, group, fork);

  switch (event.type) {
    case 'member_joined':
      await noteMember(unit, cx, group, event.data.user_id, event.seq);
      break;
    case 'member_left':
      unit.delete('members', `${group}/${left}`);
      if ((await loadRoster(unit, group)).devices.some(({ user }) => user === left)) await dropOwn(unit, cx, group);
      break;
    case 'identity_changed':
      await noteIdentity(unit, cx, event);
      break;
    case 'new_record':
      await takeRecord(unit, cx, event);
      break;
    case 'new_keys':
      await takeKeys(unit, cx, event, readWaiting);
      break;
    default:
      if (CONTENT_EVENTS[event.type]) await takeContent(unit, cx, event);
  }
  return 'processed';
}

/** @param {unknown} text What the server sends as base64. @returns {Bytes | null} Null when it is not: no event may stop the log. */
function bytesOf(text) {
  try {
    return fromBase64(String(text));
  } catch {
    return null;
  }
}

/** @param {Unit} unit @param {Context} cx @param {LogEvent} event */
async function takeRecord(unit, cx, event) {
  const group = event.group_id;
  const bytes = bytesOf(event.data.record) ?? new Uint8Array(0);
  const { roster, before } = await addRecord(unit, group, { seq: event.seq, author: String(event.data.author_id), bytes });
  for (const { seq, code, user, device } of roster.warnings.filter((one) => one.seq === event.seq))
    warn(unit, cx, { group, seq, code, user, device, details: {} });
  if (roster.devices === before.devices) return;
  const stays = (/** @type {{identity: Bytes}} */ { identity }) => roster.devices.some((one) => equal(one.identity, identity));
  if (!before.devices.every(stays)) await dropOwn(unit, cx, group);
  await followRoster(unit, cx, group, readWaiting);
}

/**
 * A device has left: what follows is sealed with new chains. It may have been shown the present ones as history by somebody else, of which this device
 * knows nothing.
 *
 * @param {Unit} unit
 * @param {Context} cx
 * @param {string} group
 */
async function dropOwn(unit, cx, group) {
  for (const [key] of await unit.list('own', `${group}/`)) await dropChain(unit, cx, key);
}

/** @param {Unit} unit @param {Context} cx @param {LogEvent} event The server's word on a device, compared with the roster. */
async function noteIdentity(unit, cx, event) {
  const { user_id: user, device_id: device, change, identity_key: identity } = event.data;
  const named = bytesOf(identity);
  const known = findDevice(await loadRoster(unit, event.group_id), user, device);
  if (!known || change === 'removed') return;
  if (!named || !equal(known.identity, named))
    warn(unit, cx, { group: event.group_id, seq: event.seq, code: 'identity_differs', user, device, details: { change } });
}
