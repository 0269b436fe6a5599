/** Sharing history: chains of the past for a later member, as the policy allows and a person decides. */
import { toHex } from './bytes.js';
import { E2eeError } from './errors.js';
import { HISTORY_POLICY } from './formats/records.js';
import { historyOf } from './keys.js';
import { enqueue, loadRoster, newKey } from './state.js';

/** @import { History } from './formats/envelope.js' */
/** @import { Context } from './state.js' */
/** @import { Unit } from './unit.js' */

/** Chains in one delivery: with their proofs they stay far below the limit of an envelope. */
const MAX_CHAINS = 24;

/**
 * Enqueue, for each device of a person, every chain of the group that this device may share.
 *
 * @param {Unit} unit
 * @param {Context} cx
 * @param {string} group
 * @param {string} user
 * @returns {Promise<number>} Chains given to each device.
 * @throws {E2eeError} `stopped` when the policy allows none.
 */
export async function shareHistory(unit, { me }, group, user) {
  const { history, devices } = await loadRoster(unit, group);
  if (history === HISTORY_POLICY.none)
    throw new E2eeError('stopped', 'the group does not share history: its founder can change the policy');
  const pins = (await unit.list('distributions')).map(([, row]) => row).filter((row) => row.group === group && !row.chain);
  let most = 0;
  for (const { user: to, device, identity, since } of devices) {
    if (to !== user || (to === me.user && device === me.device)) continue;
    /** @type {History[]} */
    const shared = [];
    for (const row of pins) {
      if (row.user === to && row.device === device) continue;
      if (history === HISTORY_POLICY.joined && (row.madeEpoch ?? row.epoch) < since) continue;
      if (row.own) shared.push({ user: row.user, device: row.device, skdm: row.firstSkdm });
      else if (row.shareable) shared.push(historyOf(row));
    }
    most = Math.max(most, shared.length);
    for (let at = 0; at < shared.length; at += MAX_CHAINS) {
      const row = {
        to: { user: to, device },
        identity: toHex(identity),
        history: shared.slice(at, at + MAX_CHAINS),
        secret: true,
        notBefore: 0,
      };
      await enqueue(unit, group, { kind: 'deliver', id: newKey(), ...row });
    }
  }
  return most;
}
