/** The dialogs for creating and joining a group. */
import { readInvitation } from '../../model/invitation.js';
import { h } from '../dom.js';
import { dialog, field, form } from '../window.js';

/** @import {Attempt} from '../../model/membership.js' */
/** @import {Family} from '../../model/family.js' */
/** @import {Bytes} from '../../crypto/bytes.js' */

/** @param {Family} family @param {(groupId: string) => void} go */
export function newGroup(family, go) {
  /** @type {Attempt} */
  const attempt = {};
  dialog('New group', (close) => [
    h('p', {}, 'Choose a name. The server cannot read it: it is encrypted too.'),
    form(
      {
        label: 'Create the group',
        act: async ({ name = '', changing = '' }) => {
          if (!name.trim()) throw new Error('The group needs a name.');
          go(await family.membership.create(name.trim(), attempt, changing === 'on' ? 2 : 1));
          close();
        },
      },
      field('name', 'Name', { maxlength: 80, autofocus: true, placeholder: 'The Lovelaces' }),
      h('label', { class: 'check' }, h('input', { type: 'checkbox', name: 'changing' }), 'Keys that change with every message'),
      h(
        'p',
        { class: 'hint' },
        'With them, a stolen key opens few messages and not all. New members see what was written before only when a member shows it to them.',
      ),
    ),
  ]);
}

/** Join with a whole invitation, or unlock a locked group with its key. @param {Family} family @param {string} link @param {string} key */
async function enter(family, link, key) {
  const invitation = readInvitation(link, key);
  if (invitation.kind === 'broken') throw new Error('The key is incomplete, or a letter in it is wrong. Ask for the link again.');
  if (invitation.kind === 'none') throw new Error('The key is missing: paste the whole link, or enter code and key in the two fields.');
  const known = await family.membership.recognize(invitation.raw);
  if (known) return known;
  if (invitation.kind === 'key') throw new Error('The code is missing: paste the whole link, or enter code and key in the two fields.');
  return join(family, invitation.code, invitation.raw, invitation.inviter);
}

/** @param {Family} family @param {string} code @param {Bytes} raw @param {string} [inviter] */
async function join(family, code, raw, inviter) {
  try {
    return await family.membership.join(code, raw, inviter);
  } catch (error) {
    if (/** @type {any} */ (error).code !== 'NOT_FOUND') throw error;
    throw new Error('This invite link is no longer valid. Ask the person who sent it for a new one.', { cause: error });
  }
}

/** @param {Family} family @param {(groupId: string) => void} go */
export function joinGroup(family, go) {
  dialog('Join a group', (close) => [
    h('p', {}, 'Paste the link that you received. If you received a code and a key instead, enter them in the two fields.'),
    form(
      {
        label: 'Join',
        act: async ({ link = '', key = '' }) => {
          go(await enter(family, link, key));
          close();
        },
      },
      field('link', 'Link or code', { autofocus: true, spellcheck: 'false' }),
      field('key', 'Key, if you received it separately', { required: false, spellcheck: 'false' }),
    ),
  ]);
}

/**
 * Ask a logged-in member who opened a link before joining.
 *
 * @param {Family} family
 * @param {{code: string, raw: Bytes, inviter?: string}} invitation
 * @param {(groupId: string) => void} go
 * @param {string} [problem] Why an earlier try failed.
 */
export function confirmJoin(family, { code, raw, inviter }, go, problem) {
  dialog('Join this group?', (close) => [
    problem ? h('p', { class: 'problem' }, problem) : null,
    h('p', {}, 'You opened an invitation. If you join, all members of the group see your name, and when you are online.'),
    form(
      {
        label: 'Join the group',
        act: async () => {
          go(await join(family, code, raw, inviter));
          close();
        },
      },
      h('div', { class: 'actions start' }, h('button', { type: 'button', class: 'quiet', onclick: close }, 'Not now')),
    ),
  ]);
}

/** Explain why an opened link cannot be used. @param {string} why */
export function deadLink(why) {
  dialog('Invitation', (close) => [
    h('p', {}, why),
    h('div', { class: 'actions' }, h('button', { type: 'button', class: 'primary', onclick: close }, 'Close')),
  ]);
}
