/** The windows in which a group is made or joined. */
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
  dialog('A new group', (close) => [
    h('p', {}, 'Name it as you speak of it. The name is encrypted too.'),
    form(
      {
        label: 'Make the group',
        act: async ({ name = '' }) => {
          if (!name.trim()) throw new Error('The group needs a name.');
          go(await family.membership.create(name.trim(), attempt));
          close();
        },
      },
      field('name', 'Name', { maxlength: 80, autofocus: true, placeholder: 'The Lovelaces' }),
    ),
  ]);
}

/** Join with what a person has: a whole invitation, or a key for a group that is locked here. @param {Family} family @param {string} link @param {string} key */
async function enter(family, link, key) {
  const invitation = readInvitation(link, key);
  if (invitation.kind === 'broken') throw new Error('The key is not whole, or a letter of it is wrong. Ask for the link once more.');
  if (invitation.kind === 'none') throw new Error('The key is missing: paste the whole link, or put code and key in the two fields.');
  const known = await family.membership.recognize(invitation.raw);
  if (known) return known;
  if (invitation.kind === 'key') throw new Error('The code is missing: paste the whole link, or put code and key in the two fields.');
  return join(family, invitation.code, invitation.raw);
}

/** @param {Family} family @param {string} code @param {Bytes} raw */
async function join(family, code, raw) {
  try {
    return await family.membership.join(code, raw);
  } catch (error) {
    if (/** @type {any} */ (error).code !== 'NOT_FOUND') throw error;
    throw new Error('The code of this link opens nothing any more. Ask the person who sent it for a new link.', { cause: error });
  }
}

/** @param {Family} family @param {(groupId: string) => void} go */
export function joinGroup(family, go) {
  dialog('Join a group', (close) => [
    h('p', {}, 'Paste the link that you were sent. If you were given a code and a key instead, put them in the two fields.'),
    form(
      {
        label: 'Join',
        act: async ({ link = '', key = '' }) => {
          go(await enter(family, link, key));
          close();
        },
      },
      field('link', 'Link, or code', { autofocus: true, spellcheck: 'false' }),
      field('key', 'Key, if it was given apart', { required: false, spellcheck: 'false' }),
    ),
  ]);
}

/**
 * A link was opened by a member who is logged in: ask before anything is joined.
 *
 * @param {Family} family
 * @param {{code: string, raw: Bytes}} invitation
 * @param {(groupId: string) => void} go
 * @param {string} [problem] Why an earlier try failed.
 */
export function confirmJoin(family, { code, raw }, go, problem) {
  dialog('Join this group?', (close) => [
    problem ? h('p', { class: 'problem' }, problem) : null,
    h('p', {}, 'You opened an invitation. If you join, all members of the group see your name, and when you are online.'),
    form(
      {
        label: 'Join the group',
        act: async () => {
          go(await join(family, code, raw));
          close();
        },
      },
      h('div', { class: 'actions start' }, h('button', { type: 'button', class: 'quiet', onclick: close }, 'Not now')),
    ),
  ]);
}

/** A link was opened that cannot be used. @param {string} why */
export function deadLink(why) {
  dialog('This invitation', (close) => [
    h('p', {}, why),
    h('div', { class: 'actions' }, h('button', { type: 'button', class: 'primary', onclick: close }, 'Close')),
  ]);
}
