/** Repair: which missing keys are requested again, and which never arrived. */
import { fromHex } from './bytes.js';
import { requestDue } from './receiver.js';
import { enqueue, loadGroup, loadMembers, newKey, outbox, warn } from './state.js';
import { ordered } from './unit.js';

/** @import { Waiting } from './contents.js' */
/** @import { Context, DraftRow } from './state.js' */
/** @import { Unit } from './unit.js' */

/** After this an event that must have come counts as withheld, in milliseconds. */
export const WITHHELD_MS = 60_000;

/**
 * Enqueue the requests that are due, end those that were made often enough, and warn of what the server withholds.
 *
 * @param {Unit} unit
 * @param {Context} cx
 * @param {string} group
 * @param {number} caughtUpAt When the device had caught up, in milliseconds.
 */
export async function dueRequests(unit, cx, group, caughtUpAt) {
  const now = cx.now();
  /** @type {Set<string>} */
  const asked = new Set();
  for (const [key, row] of /** @type {[string, Waiting][]} */ (await unit.list('waiting', `${group}/`))) {
    if (!row.event || row.ended) continue;
    const since = row.since ?? Math.max(now, caughtUpAt);
    if (row.since === null) unit.put('waiting', key, { ...row, since });
    const due = requestDue(row.asked, since);
    if (due === null) {
      unit.put('waiting', key, { ...row, ended: true });
      const at = `${group}/${ordered(row.seq)}`;
      const item = await unit.get('items', at);
      if (item?.status === 'waiting') unit.put('items', at, { ...item, status: 'no_key' });
    } else if (due <= now) {
      unit.put('waiting', key, { ...row, since, asked: row.asked + 1 });
      if (!asked.has(row.distribution))
        await enqueue(unit, group, { kind: 'request', id: newKey(), distribution: fromHex(row.distribution) });
      asked.add(row.distribution);
    }
  }
  await noteWithheld(unit, cx, group, now);
}

/** @param {Unit} unit @param {Context} cx @param {string} group @param {number} now */
async function noteWithheld(unit, cx, group, now) {
  const { position, removals } = await loadGroup(unit, group);
  const members = await loadMembers(unit, group);
  for (const { user, since } of removals)
    if (members.has(user) && now - since >= WITHHELD_MS)
      warn(unit, cx, { group, seq: position.seq, code: 'withheld_removal', user, device: 0, details: {} });
  for (const [key, row] of /** @type {[string, DraftRow][]} */ (await unit.list('outbox', outbox.posted(group)))) {
    // Accepted under a number that this device has passed, and the event was not there.
    if (row.withheld || !row.posted || row.posted > position.seq) continue;
    unit.put('outbox', key, { ...row, withheld: true });
    warn(unit, cx, { group, seq: row.posted, code: 'withheld_post', user: cx.me.user, device: cx.me.device, details: {} });
  }
}
