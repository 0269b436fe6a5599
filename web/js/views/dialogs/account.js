/** The window with notifications, what this browser keeps, and the way out. */
import { h, put } from '../dom.js';
import { dialog } from '../window.js';
import { counted } from '../words.js';

/** @import {Family} from '../../model/family.js' */

/** @typedef {(forget: boolean) => Promise<void>} Leave */

/** @returns {(HTMLElement | null)[]} */
function notifications() {
  const asked = 'Notification' in globalThis ? Notification.permission : 'denied';
  const granted = 'You are notified of what is new while this page is open.';
  const state = h(
    'p',
    { class: 'hint', role: 'status' },
    asked === 'granted' ? granted : asked === 'denied' ? 'This browser shows none for this page.' : '',
  );
  const ask = async () => {
    const answer = await Notification.requestPermission();
    put(state, answer === 'granted' ? granted : 'The browser does not allow it for this page.');
  };
  return [
    h('h3', {}, 'Notifications'),
    asked === 'default' ? h('button', { type: 'button', class: 'quiet', onclick: ask }, 'Notify me of what is new') : null,
    state,
  ];
}

/** @param {Family} family @returns {HTMLElement | null} */
function storage({ persisted }) {
  if (persisted !== false) return null;
  const text =
    'This browser may delete the keys by itself, when its disk is full or the page was long not opened. Put the page on the home screen, or keep an invite link of each group.';
  return h('p', { class: 'hint' }, text);
}

/** What would be lost with the keys. @param {Family} family @returns {string[]} */
function losses(family) {
  const found = [];
  const waiting = family.outbox.waiting.length + family.uploads.all.size;
  if (waiting)
    found.push(`${counted(waiting, 'text or photo', 'texts and photos')} that ${waiting === 1 ? 'is' : 'are'} not with the server yet`);
  for (const { name, memberCount, key } of family.groups.values()) {
    if (key && memberCount === 1) found.push(`everything in ${name}: you are its only member, and nobody else has the key`);
  }
  if (family.groups.size)
    found.push('the keys of your groups, unless another device of yours has them; any other member can send you the link again');
  if (family.loaded !== 'yes') found.push('the keys of groups that cannot be listed just now, because the server cannot be reached');
  return found;
}

/** @param {Family} family @param {Leave} leave */
function forget(family, leave) {
  dialog('Forget the keys?', (close) => [
    h('p', {}, 'You lose on this device:'),
    h(
      'ul',
      { class: 'losses' },
      [...losses(family), 'drafts, and what was marked as read'].map((text) => h('li', {}, text)),
    ),
    h(
      'div',
      { class: 'actions' },
      h('button', { type: 'button', class: 'quiet', onclick: close }, 'Keep them'),
      h('button', { type: 'button', class: 'danger', onclick: () => leave(true) }, 'Forget the keys'),
    ),
  ]);
}

/** @param {Family} family @param {Leave} leave */
export function account(family, leave) {
  dialog(family.session.username, () => [
    ...notifications(),
    storage(family),
    h('h3', {}, 'Log out'),
    h('p', { class: 'hint' }, 'The keys of your groups stay in this browser, so that you can log in here again and read.'),
    h('div', { class: 'actions start' }, h('button', { type: 'button', class: 'primary', onclick: () => leave(false) }, 'Log out')),
    h(
      'details',
      {},
      h('summary', {}, 'This is not my device'),
      h('p', { class: 'hint' }, 'Log out, and remove the keys too. To read here again you need an invite link of each group.'),
      h(
        'div',
        { class: 'actions start' },
        h('button', { type: 'button', class: 'danger', onclick: () => forget(family, leave) }, 'Log out and forget the keys'),
      ),
    ),
  ]);
}
