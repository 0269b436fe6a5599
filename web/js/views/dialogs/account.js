/** The account dialog: notifications, storage, log-out. */
import { h } from '../dom.js';
import { dialog } from '../window.js';
import { counted } from '../words.js';
import { notifications } from './notifications.js';

/** @import {Family} from '../../model/family.js' */
/** @import {Push} from '../../model/push.js' */

/** @typedef {(forget: boolean) => Promise<void>} Leave */

/** @param {Family} family @returns {HTMLElement | null} */
function storage({ persisted }) {
  if (persisted !== false) return null;
  const text =
    'This browser may delete the keys when its disk is full, or when the page is not opened for a long time. Add the page to the home screen, or keep an invite link for each group.';
  return h('p', { class: 'hint' }, text);
}

/** What deleting the keys would lose. @param {Family} family @returns {string[]} */
function losses(family) {
  const found = [];
  const waiting = family.outbox.waiting.length + family.uploads.all.size;
  if (waiting) found.push(`${counted(waiting, 'text or photo', 'texts and photos')} that ${waiting === 1 ? 'is' : 'are'} not sent yet`);
  for (const { name, memberCount, key } of family.groups.values()) {
    if (key && memberCount === 1) found.push(`everything in ${name}: you are its only member, and nobody else has the key`);
  }
  if (family.groups.size)
    found.push('the keys of your groups, unless another device of yours has them; any other member can send you the link again');
  if (family.loaded !== 'yes') found.push('the keys of groups that cannot be listed at the moment, because the server cannot be reached');
  return found;
}

/** @param {Family} family @param {Leave} leave */
function forget(family, leave) {
  dialog('Delete the keys?', (close) => [
    h('p', {}, 'This is deleted from this device:'),
    h(
      'ul',
      { class: 'losses' },
      [...losses(family), 'drafts, and which threads you have read'].map((text) => h('li', {}, text)),
    ),
    h(
      'div',
      { class: 'actions' },
      h('button', { type: 'button', class: 'quiet', onclick: close }, 'Cancel'),
      h('button', { type: 'button', class: 'danger', onclick: () => leave(true) }, 'Delete the keys'),
    ),
  ]);
}

/** @param {Family} family @param {Leave} leave @param {Push} push */
export function account(family, leave, push) {
  dialog(family.session.username, () => [
    notifications(family, push),
    storage(family),
    h('h3', {}, 'Log out'),
    h('p', { class: 'hint' }, 'The keys of your groups stay in this browser, so that you can log in here again and read.'),
    h('div', { class: 'actions start' }, h('button', { type: 'button', class: 'primary', onclick: () => leave(false) }, 'Log out')),
    h(
      'details',
      {},
      h('summary', {}, 'This is not my device'),
      h('p', { class: 'hint' }, 'Log out, and delete the keys too. To read here again, you need an invite link for each group.'),
      h(
        'div',
        { class: 'actions start' },
        h('button', { type: 'button', class: 'danger', onclick: () => forget(family, leave) }, 'Log out and delete the keys'),
      ),
    ),
  ]);
}
