/**
 * The receiver's machine: one for each distribution (one sender's chain). A pure state machine; `contents.js` does what it says.
 *
 * The table is data: docs/reference/encryption.md draws it, and a test holds that every pair of a state and an input has its row.
 */
import { E2eeError } from './errors.js';
import { MAX_AHEAD } from './crypto/chain.js';

/** When a missing key is asked for, in milliseconds after the device has caught up; then asking stops. */
export const REQUEST_MS = Object.freeze([3_000, 60_000, 3_600_000, 86_400_000]);

/** @typedef {'unknown' | 'known'} ReceiverState */
/**
 * @typedef {'content' | 'before_first' | 'other_author' | 'other_group' | 'far_ahead' | 'duplicate' | 'keys' | 'keys_again' | 'keys_stolen' | 'keys_stranger'
 *   | 'keys_identity' | 'history_trusted' | 'history_untrusted' | 'request_entitled' | 'request_later' | 'request_foreign'} ReceiverInput
 */
/** @typedef {'wait' | 'read' | 'pin' | 'ignore' | 'hold' | 'warn' | 'drop' | 'read_past' | 'answer'} ReceiverAct */
/**
 * @typedef {'wrong_sender' | 'misplaced' | 'too_far_ahead' | 'repeated' | 'stolen_distribution' | 'unknown_device' | 'identity_differs' | 'untrusted_history'
 *   | 'foreign_request'} ReceiverWarning
 */
/** @typedef {{state: ReceiverState, on: ReceiverInput, does: ReceiverAct, to: ReceiverState, warning?: ReceiverWarning}} ReceiverRow */

const STRANGER = /** @type {const} */ ({ does: 'hold', warning: 'unknown_device' });
const IDENTITY = /** @type {const} */ ({ does: 'hold', warning: 'identity_differs' });
const UNTRUSTED = /** @type {const} */ ({ does: 'warn', warning: 'untrusted_history' });
const FOREIGN = /** @type {const} */ ({ does: 'warn', warning: 'foreign_request' });

/** @type {readonly ReceiverRow[]} */
export const RECEIVER = Object.freeze(
  /** @type {ReceiverRow[]} */ ([
    { state: 'unknown', on: 'content', does: 'wait', to: 'unknown' },
    { state: 'unknown', on: 'keys', does: 'pin', to: 'known' },
    { state: 'unknown', on: 'keys_stranger', to: 'unknown', ...STRANGER },
    { state: 'unknown', on: 'keys_identity', to: 'unknown', ...IDENTITY },
    { state: 'unknown', on: 'history_trusted', does: 'read_past', to: 'unknown' },
    { state: 'unknown', on: 'history_untrusted', to: 'unknown', ...UNTRUSTED },
    { state: 'unknown', on: 'request_foreign', to: 'unknown', ...FOREIGN },
    { state: 'known', on: 'content', does: 'read', to: 'known' },
    { state: 'known', on: 'before_first', does: 'wait', to: 'known' },
    { state: 'known', on: 'other_author', does: 'warn', to: 'known', warning: 'wrong_sender' },
    { state: 'known', on: 'other_group', does: 'warn', to: 'known', warning: 'misplaced' },
    { state: 'known', on: 'far_ahead', does: 'warn', to: 'known', warning: 'too_far_ahead' },
    { state: 'known', on: 'duplicate', does: 'drop', to: 'known', warning: 'repeated' },
    { state: 'known', on: 'keys_again', does: 'ignore', to: 'known' },
    { state: 'known', on: 'keys_stolen', does: 'warn', to: 'known', warning: 'stolen_distribution' },
    { state: 'known', on: 'keys_stranger', to: 'known', ...STRANGER },
    { state: 'known', on: 'keys_identity', to: 'known', ...IDENTITY },
    { state: 'known', on: 'history_trusted', does: 'read_past', to: 'known' },
    { state: 'known', on: 'history_untrusted', to: 'known', ...UNTRUSTED },
    { state: 'known', on: 'request_entitled', does: 'answer', to: 'known' },
    { state: 'known', on: 'request_later', does: 'ignore', to: 'known' },
    { state: 'known', on: 'request_foreign', to: 'known', ...FOREIGN },
  ]),
);

/**
 * Find the row of a state and an input.
 *
 * @param {ReceiverState} state
 * @param {ReceiverInput} on
 * @returns {ReceiverRow}
 * @throws {E2eeError} `stopped`: an error of this library, since the functions below name no input without a row.
 */
export function receiverRow(state, on) {
  const row = RECEIVER.find((one) => one.state === state && one.on === on);
  if (!row) throw new E2eeError('stopped', `the receiver's machine has no row for ${on} in ${state}`);
  return row;
}

/**
 * @typedef {object} Pinned What is known of a distribution.
 * @property {string} group
 * @property {string} user
 * @property {number} device
 * @property {number} first The first iteration given.
 * @property {number} last One above the newest iteration read.
 */

/**
 * Name the input that content is, before anything is decrypted.
 *
 * @param {Pinned | undefined} pinned
 * @param {{author: string, group: string, iteration: number}} content
 * @returns {ReceiverRow}
 */
export function onContent(pinned, { author, group, iteration }) {
  if (!pinned) return receiverRow('unknown', 'content');
  if (pinned.group !== group) return receiverRow('known', 'other_group');
  if (pinned.user !== author) return receiverRow('known', 'other_author');
  if (iteration < pinned.first) return receiverRow('known', 'before_first');
  if (iteration - pinned.last > MAX_AHEAD) return receiverRow('known', 'far_ahead');
  return receiverRow('known', 'content');
}

/**
 * Name the input that opened keys are.
 *
 * @param {Pinned | undefined} pinned
 * @param {{user: string, device: number, group: string}} from The device whose signature or session the keys came by.
 * @returns {ReceiverRow}
 */
export function onKeys(pinned, from) {
  if (!pinned) return receiverRow('unknown', 'keys');
  const owned = pinned.user === from.user && pinned.device === from.device && pinned.group === from.group;
  return receiverRow('known', owned ? 'keys_again' : 'keys_stolen');
}

/**
 * Name the input that a request for an own chain is.
 *
 * @param {{inRoster: boolean, given: boolean, since: number, madeEpoch: number}} asker `given`: with the identity that the roster has; `since`: the
 *   number of the record that admitted it.
 * @returns {ReceiverRow}
 */
export function onRequest({ inRoster, given, since, madeEpoch }) {
  if (!inRoster) return receiverRow('known', 'request_foreign');
  return receiverRow('known', given || since <= madeEpoch ? 'request_entitled' : 'request_later');
}

/**
 * Name the input that a shared chain of another device is.
 *
 * @param {boolean} known Whether the distribution is pinned already.
 * @param {boolean} trusted Whether its giver is verified, the inviter, or an own device.
 * @returns {ReceiverRow}
 */
export const onHistory = (known, trusted) => receiverRow(known ? 'known' : 'unknown', trusted ? 'history_trusted' : 'history_untrusted');

/**
 * When the next request for a missing key is due.
 *
 * @param {number} asked Requests made so far.
 * @param {number} since When the device had caught up and the key was missing, in milliseconds.
 * @returns {number | null} Null when asking has ended.
 */
export const requestDue = (asked, since) => {
  const wait = REQUEST_MS[asked];
  return wait === undefined ? null : since + wait;
};
