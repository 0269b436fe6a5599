/**
 * The sender's machine, with the rotation of its key: one for each group, device and tab. A pure state machine; `outbound.js` does what it says.
 *
 * The table is data: docs/reference/encryption.md draws it, and a test holds that every pair of a state and an input has its row.
 */
import { E2eeError } from './errors.js';

/** A chain is replaced after so many messages: far below what readers skip or libsignal bounds. */
export const MAX_MESSAGES = 1000;
/** Devices that one `new_keys` serves: 128 deliveries of 1,381 bytes are 177 kB, below the limit of 256 KiB. */
export const MAX_DELIVERIES = 128;
const DAY_MS = 24 * 60 * 60 * 1000;

/** @typedef {'none' | 'made' | 'giving' | 'ready'} SenderState */
/** @typedef {'draft' | 'missing' | 'complete' | 'accepted' | 'pending' | 'epoch_changed' | 'moved' | 'lost' | 'rotate'} SenderInput */
/** @typedef {'make' | 'give' | 'repost' | 'record' | 'catch_up' | 'seal' | 'drop' | 'follow'} SenderAct */
/** @typedef {{state: SenderState, on: SenderInput, does: SenderAct, to: SenderState}} SenderRow */

/** @type {readonly SenderRow[]} */
export const SENDER = Object.freeze(
  /** @type {SenderRow[]} */ ([
    { state: 'none', on: 'draft', does: 'make', to: 'made' },
    { state: 'made', on: 'missing', does: 'give', to: 'giving' },
    { state: 'made', on: 'complete', does: 'follow', to: 'ready' },
    { state: 'made', on: 'moved', does: 'follow', to: 'made' },
    { state: 'made', on: 'lost', does: 'drop', to: 'none' },
    { state: 'made', on: 'rotate', does: 'drop', to: 'none' },
    { state: 'giving', on: 'pending', does: 'repost', to: 'giving' },
    { state: 'giving', on: 'accepted', does: 'record', to: 'ready' },
    { state: 'giving', on: 'epoch_changed', does: 'catch_up', to: 'made' },
    { state: 'giving', on: 'moved', does: 'catch_up', to: 'made' },
    { state: 'giving', on: 'lost', does: 'drop', to: 'none' },
    { state: 'giving', on: 'rotate', does: 'drop', to: 'none' },
    { state: 'ready', on: 'draft', does: 'seal', to: 'ready' },
    { state: 'ready', on: 'missing', does: 'give', to: 'giving' },
    { state: 'ready', on: 'moved', does: 'follow', to: 'ready' },
    { state: 'ready', on: 'epoch_changed', does: 'catch_up', to: 'ready' },
    { state: 'ready', on: 'lost', does: 'drop', to: 'none' },
    { state: 'ready', on: 'rotate', does: 'drop', to: 'none' },
  ]),
);

/**
 * Find the row of a state and an input.
 *
 * @param {SenderState} state
 * @param {SenderInput} on
 * @returns {SenderRow}
 * @throws {E2eeError} `stopped`: an error of this library, since `nextInput` names no input without a row.
 */
export function senderRow(state, on) {
  const row = SENDER.find((one) => one.state === state && one.on === on);
  if (!row) throw new E2eeError('stopped', `the sender's machine has no row for ${on} in ${state}`);
  return row;
}

/** @typedef {{user: string, device: number, identity: string, suites: number}} ViewDevice `identity` in hexadecimal. */
/**
 * @typedef {object} SenderView What the log says, as far as this device has processed it.
 * @property {number} epoch Number of the group's last change of members, devices or records.
 * @property {readonly ViewDevice[]} devices The roster's devices whose people are members, without this one.
 * @property {number} rotationDays
 */
/**
 * @typedef {object} SenderFacts
 * @property {SenderState} state
 * @property {number} epoch The epoch that the chain was last given for.
 * @property {number} count Messages sealed with the chain.
 * @property {number} madeAt In milliseconds since the Unix epoch.
 * @property {readonly {user: string, device: number, identity: string, maybe?: boolean}[]} given `maybe`: posted, and the answer is not known.
 * @property {boolean} drafts Whether there is something to send.
 */

/** @param {{user: string, device: number, identity: string}} a @param {{user: string, device: number, identity: string}} b */
const same = (a, b) => a.user === b.user && a.device === b.device && a.identity === b.identity;

/**
 * Name the devices that were not given the chain yet.
 *
 * @param {SenderView} view
 * @param {Pick<SenderFacts, 'given'>} facts
 */
export const missingDevices = (view, { given }) => view.devices.filter((device) => !given.some((one) => !one.maybe && same(one, device)));

/**
 * Decide what the machine's next input is.
 *
 * Keys go before content: a draft counts only once every device of the view was given the chain for the view's epoch.
 *
 * @param {SenderFacts} facts
 * @param {SenderView} view
 * @param {number} now In milliseconds since the Unix epoch.
 * @returns {SenderInput | null} Null when there is nothing to do.
 */
export function nextInput(facts, view, now) {
  const { state, epoch, count, madeAt, given, drafts } = facts;
  if (state === 'none') return drafts ? 'draft' : null;
  if (given.some((one) => !view.devices.some((device) => same(one, device)))) return 'lost';
  // A clock that went back does not keep a chain alive: the count bounds it.
  if (count >= MAX_MESSAGES || now - madeAt >= view.rotationDays * DAY_MS) return 'rotate';
  if (state === 'giving') return epoch === view.epoch ? 'pending' : 'moved';
  if (!drafts) return null;
  if (epoch !== view.epoch) return 'moved';
  if (missingDevices(view, facts).length > 0) return 'missing';
  return state === 'made' ? 'complete' : 'draft';
}
