/**
 * The two machines of linking: one on the new device, one on the device that admits it. Pure tables; `linking.js` does what they say.
 *
 * docs/reference/encryption.md draws them, and a test holds that every row uses described names only.
 */
import { E2eeError } from './errors.js';

/** @typedef {'idle' | 'offered' | 'received'} NewState */
/** @typedef {'open' | 'shown' | 'mail' | 'foreign' | 'expired' | 'confirmed' | 'declined'} NewInput */
/** @typedef {'show' | 'keep' | 'forget' | 'enter'} NewAct */
/** @typedef {{state: NewState, on: NewInput, does: NewAct, to: NewState}} NewRow */

/** @typedef {'idle' | 'sending'} OldState */
/** @typedef {'code' | 'again' | 'delivered' | 'taken' | 'gone'} OldInput */
/** @typedef {'seal' | 'post' | 'record' | 'forget'} OldAct */
/** @typedef {{state: OldState, on: OldInput, does: OldAct, to: OldState}} OldRow */

/** @type {readonly NewRow[]} */
export const NEW_DEVICE = Object.freeze(
  /** @type {NewRow[]} */ ([
    { state: 'idle', on: 'open', does: 'show', to: 'offered' },
    { state: 'offered', on: 'shown', does: 'show', to: 'offered' },
    { state: 'offered', on: 'open', does: 'show', to: 'offered' },
    { state: 'offered', on: 'mail', does: 'keep', to: 'received' },
    { state: 'offered', on: 'foreign', does: 'forget', to: 'idle' },
    { state: 'offered', on: 'expired', does: 'forget', to: 'idle' },
    { state: 'offered', on: 'declined', does: 'forget', to: 'idle' },
    { state: 'received', on: 'open', does: 'show', to: 'offered' },
    { state: 'received', on: 'confirmed', does: 'enter', to: 'idle' },
    { state: 'received', on: 'declined', does: 'forget', to: 'idle' },
  ]),
);

/** @type {readonly OldRow[]} */
export const OLD_DEVICE = Object.freeze(
  /** @type {OldRow[]} */ ([
    { state: 'idle', on: 'code', does: 'seal', to: 'sending' },
    { state: 'sending', on: 'again', does: 'post', to: 'sending' },
    { state: 'sending', on: 'delivered', does: 'record', to: 'idle' },
    { state: 'sending', on: 'taken', does: 'forget', to: 'idle' },
    { state: 'sending', on: 'gone', does: 'forget', to: 'idle' },
  ]),
);

/**
 * Find the row of a state and an input.
 *
 * @template {{state: string, on: string}} Row
 * @param {readonly Row[]} rows
 * @param {Row['state']} state
 * @param {Row['on']} on
 * @returns {Row}
 * @throws {E2eeError} `not_found` when nothing is to be done in this state, as for a confirmation before a message arrived.
 */
export function linkRow(rows, state, on) {
  const row = rows.find((one) => one.state === state && one.on === on);
  if (!row) throw new E2eeError('not_found', `linking is ${state} here, and ${on} does not fit: begin again with a new code`);
  return row;
}

/** @type {Readonly<Record<NewState, string>>} */
export const NEW_STATES = Object.freeze({
  idle: 'No code is shown.',
  offered: 'A mailbox is open, and its code can be shown for ten minutes.',
  received: 'A message was opened; a person compares the numbers on both devices.',
});
/** @type {Readonly<Record<NewInput, string>>} */
export const NEW_INPUTS = Object.freeze({
  open: 'a person asks for a code, and none can be used',
  shown: 'a person asks for a code again, or the program was restarted, and the code can still be used',
  mail: 'a message that opens with the code, from another device of the same person',
  foreign: 'a message that does not open, or is of another person',
  expired: 'ten minutes are over, or the mailbox is gone',
  confirmed: 'the person says that both numbers are equal',
  declined: 'the person says that they differ, or ends it',
});
/** @type {Readonly<Record<NewAct, string>>} */
export const NEW_ACTS = Object.freeze({
  show: 'store keys, secret and mailbox of a new code, or keep those of a code that can be used; show it',
  keep: 'store the message, show the number',
  forget: 'delete keys, secret and message',
  enter: 'enter every group of the message and delete keys, secret and message, in one transaction',
});
/** @type {Readonly<Record<OldState, string>>} */
export const OLD_STATES = Object.freeze({
  idle: 'Nothing is linked.',
  sending: 'A message is sealed and stored, and the server has not answered yet.',
});
/** @type {Readonly<Record<OldInput, string>>} */
export const OLD_INPUTS = Object.freeze({
  code: 'a person confirms a code that this device read',
  again: 'the same code again, or the program was restarted',
  delivered: 'the server answered 204',
  taken: 'the server answered 409: another message is in the mailbox',
  gone: 'the server answered 404: the code has expired',
});
/** @type {Readonly<Record<OldAct, string>>} */
export const OLD_ACTS = Object.freeze({
  seal: 'seal what the new device needs, store it, put it into the mailbox',
  post: 'put the stored message into the mailbox',
  record: 'enqueue a `link` for each group and delete the message, in one transaction',
  forget: 'delete the message; nothing is linked',
});
