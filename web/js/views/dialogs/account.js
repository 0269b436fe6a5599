/** The account dialog: notifications, storage, the account, log-out, and the way to the administration. Loaded when it is opened. */
import { h, put } from '../dom.js';
import { dialog, say } from '../window.js';
import { counted } from '../words.js';
import { notifications } from './notifications.js';
import { deletion, password, sessions } from './own-account.js';

/** @import {Family} from '../../model/family.js' */
/** @import {Push} from '../../model/push.js' */

/**
 * What the dialog needs of the page.
 *
 * @typedef {object} Own
 * @property {(forget: boolean) => Promise<void>} leave Log out; `forget` deletes the keys, too.
 * @property {() => string | Promise<string>} token The session's present token.
 * @property {(ask: (token: string) => Promise<{token: string}>) => Promise<void>} replace Make a request with the present token; the answer's token replaces it.
 * @property {() => Promise<void>} deleted The account is deleted: forget everything, and leave.
 */

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

/** @param {Family} family @param {Own} own */
function forget(family, { leave }) {
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

/** What only the server knows of the account. @param {Family} family @param {Own} own @param {HTMLElement} target */
async function showAccount(family, own, target) {
  try {
    const { admin, has_password } = await family.ask(() => family.api.account());
    const open = async () => {
      const { administration } = await import('../admin/page.js');
      administration(family.session.user_id, own);
    };
    const pressed = () => void open().catch((error) => target.append(h('p', { class: 'problem', role: 'alert' }, say(error))));
    put(
      target,
      admin ? h('button', { type: 'button', class: 'quiet', onclick: pressed }, 'Administration') : null,
      sessions(family),
      ...(has_password
        ? [password(own), deletion(family, own)]
        : [h('p', { class: 'hint' }, 'Another service manages your password and your account.')]),
    );
  } catch (error) {
    put(target, h('p', { class: 'hint', role: 'status' }, say(error)));
  }
}

/** @param {Family} family @param {Own} own @param {Push} push */
export function account(family, own, push) {
  const server = h('div', { class: 'own-account' }, h('p', { class: 'hint', role: 'status' }, 'Loading…'));
  void showAccount(family, own, server);
  return dialog(family.session.username, () => [
    notifications(family, push),
    storage(family),
    h('h3', {}, 'Account'),
    server,
    h('h3', {}, 'Log out'),
    h('p', { class: 'hint' }, 'The keys of your groups stay in this browser, so that you can log in here again and read.'),
    h('div', { class: 'actions start' }, h('button', { type: 'button', class: 'primary', onclick: () => own.leave(false) }, 'Log out')),
    h(
      'details',
      {},
      h('summary', {}, 'This is not my device'),
      h('p', { class: 'hint' }, 'Log out, and delete the keys too. To read here again, you need an invite link for each group.'),
      h(
        'div',
        { class: 'actions start' },
        h('button', { type: 'button', class: 'danger', onclick: () => forget(family, own) }, 'Log out and delete the keys'),
      ),
    ),
  ]);
}
