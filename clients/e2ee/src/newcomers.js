/**
 * Newcomers: members whose device the roster does not have yet.
 *
 * What is written between `member_joined` and the record of the newcomer's device is for them too, and cannot be sealed for a device that nobody
 * knows. Each own chain is therefore kept from where it stood when they joined, and given once the roster has their device. A chain runs forward
 * only: nothing that was written before they joined can be read with it.
 */
import { toHex } from './bytes.js';
import { readSkdm } from './formats/sender-key.js';
import { enqueue, givenKey, loadRoster, newKey, outbox } from './state.js';

/** @import { Bytes } from './bytes.js' */
/** @import { Roster } from './roster.js' */
/** @import { Context, OutboxRow, OwnChain } from './state.js' */
/** @import { Unit } from './unit.js' */

/** A chain is kept for so long, in milliseconds: as long as the server keeps the messages that give keys. */
export const KEPT_MS = 30 * 24 * 60 * 60 * 1000;
/** Chains kept for one newcomer; the oldest goes first, and what it sealed then needs a person who shows the past. */
export const MAX_KEPT = 64;

/** @typedef {{distribution: string, skdm: Bytes, at: number}} KeptChain `distribution` in hexadecimal, `at` in milliseconds since the Unix epoch. */
/** @typedef {{since: number, kept?: KeptChain[]}} MemberRow A row of `members`; `kept` while the member is a newcomer. */

/** @param {Roster} roster @param {string} user */
const hasDevice = ({ devices }, user) => devices.some((one) => one.user === user);

/**
 * Note a member. One without a device in the roster is a newcomer, for whom every own chain of the group is kept as it stands.
 *
 * @param {Unit} unit
 * @param {Context} cx
 * @param {string} group
 * @param {string} user
 * @param {number} since The number of the event.
 */
export async function noteMember(unit, cx, group, user, since) {
  const key = `${group}/${user}`;
  const before = /** @type {MemberRow | undefined} */ (await unit.get('members', key));
  if (before?.kept) return;
  if (user === cx.me.user || hasDevice(await loadRoster(unit, group), user)) return unit.put('members', key, { since });
  /** @type {KeptChain[]} */
  const kept = [];
  for (const [, own] of /** @type {[string, OwnChain][]} */ (await unit.list('own', `${group}/`))) {
    if (!own.distribution) continue;
    const skdm = await cx.ratchet.skdm(unit, cx.me, own.distribution);
    kept.push({ distribution: toHex(own.distribution), skdm, at: cx.now() });
  }
  unit.put('members', key, { since, kept });
}

/** @param {Unit} unit @param {string} group @returns {Promise<[string, MemberRow & {kept: KeptChain[]}][]>} */
const newcomers = async (unit, group) => (await unit.list('members', `${group}/`)).filter(([, row]) => row.kept);

/**
 * Keep a new chain from its beginning for everybody who is a newcomer.
 *
 * @param {Unit} unit
 * @param {Context} cx
 * @param {string} group
 * @param {Bytes} distribution
 * @param {Bytes} skdm
 */
export async function keepForNewcomers(unit, cx, group, distribution, skdm) {
  const chain = { distribution: toHex(distribution), skdm, at: cx.now() };
  for (const [key, row] of await newcomers(unit, group))
    unit.put('members', key, { ...row, kept: [...row.kept, chain].filter(isFresh(cx)).slice(-MAX_KEPT) });
}

/** @param {Context} cx @returns {(chain: KeptChain) => boolean} */
const isFresh =
  ({ now }) =>
  ({ at }) =>
    now() - at < KEPT_MS;

/**
 * The roster has changed: enqueue what was kept for newcomers whose device it has now.
 *
 * A present chain that has sealed nothing since is left to the sender's machine, which gives it with the next draft.
 *
 * @param {Unit} unit
 * @param {Context} cx
 * @param {string} group
 */
export async function giveToNewcomers(unit, cx, group) {
  const [roster, found] = [await loadRoster(unit, group), await newcomers(unit, group)];
  if (found.length === 0) return;
  const own = /** @type {[string, OwnChain][]} */ (await unit.list('own', `${group}/`));
  const next = new Map(own.flatMap(([, { distribution, count }]) => (distribution ? [[toHex(distribution), count]] : [])));
  for (const [key, { since, kept }] of found) {
    const user = key.slice(group.length + 1);
    if (!hasDevice(roster, user)) continue;
    unit.put('members', key, { since });
    for (const device of roster.devices.filter((one) => one.user === user))
      for (const { distribution, skdm } of kept.filter(isFresh(cx))) {
        if (next.get(distribution) === readSkdm(skdm).iteration) continue;
        const [to, identity] = [{ user, device: device.device }, toHex(device.identity)];
        unit.put('given', givenKey(distribution, to), { ...to, identity, skdm });
        await enqueue(unit, group, { kind: 'deliver', id: newKey(), to, identity, skdm, history: [], secret: true, notBefore: 0 });
      }
  }
}

/** @param {Unit} unit @param {string} group @returns {Promise<boolean>} Whether a newcomer's keys are not posted yet: they go before content. */
export async function isKeptForSending(unit, group) {
  const rows = /** @type {[string, OutboxRow][]} */ (await unit.list('outbox', outbox.service(group)));
  return rows.some(([, row]) => row.kind === 'deliver' && row.skdm !== undefined && row.answers === undefined);
}
