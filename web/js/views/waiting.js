/** Shows texts that are not sent yet, with their state and actions. */
import { h } from './dom.js';
import { icon } from './icons.js';

/** @import {Family} from '../model/family.js' */
/** @import {Waiting} from '../model/types.js' */

/** @param {Family} family @param {Waiting} waiting @returns {HTMLElement[]} */
export const fate = ({ outbox }, waiting) =>
  waiting.error === undefined
    ? [h('span', { class: 'fate' }, icon('clock'), 'waiting to be sent')]
    : [
        h('p', { class: 'problem' }, `Not sent: ${waiting.error}`),
        h(
          'span',
          { class: 'actions start' },
          h('button', { type: 'button', class: 'quiet', onclick: () => outbox.resend(waiting) }, 'Send again'),
          h('button', { type: 'button', class: 'quiet', onclick: () => outbox.discard(waiting.key) }, 'Discard'),
        ),
      ];

/** @param {Family} family @param {Waiting} waiting A text whose thread cannot be shown, because its group is not listed. */
export const waitingCard = (family, waiting) =>
  h(
    'li',
    {},
    h(
      'div',
      { class: 'card waiting' },
      h('span', { class: 'card-title', dir: 'auto' }, waiting.title ?? (waiting.threadId ? 'A reply' : 'A thread')),
      h('span', { class: 'card-text whole', dir: 'auto' }, waiting.body ?? 'This cannot be opened with the keys on this device.'),
      ...fate(family, waiting),
    ),
  );
