/** The dialog with the invite link. */
import { keyToSpeak, keyToText } from '../../crypto/group-key.js';
import { invitationLink } from '../../model/invitation.js';
import { h, put } from '../dom.js';
import { pageAddress } from '../route.js';
import { dialog, form } from '../window.js';
import { until } from '../words.js';

/** @import {Family} from '../../model/family.js' */
/** @import {Group} from '../../model/types.js' */

/** @param {string} text @param {HTMLInputElement} source Selected when the browser refuses to copy. */
export function copyButton(text, source) {
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      put(button, 'Copied');
    } catch {
      source.select();
      put(button, 'Press Ctrl+C');
    }
  };
  const button = h('button', { type: 'button', class: 'quiet', onclick: copy }, 'Copy');
  return button;
}

/** @param {Family} family @param {Group} group @param {() => void} close */
function renewForm(family, group, close) {
  const act = async ({ once = '', hours = '' }) => {
    await family.membership.renewCode(group, { singleUse: once === 'on', ...(hours && { hours: Number(hours) }) });
    close();
    await invite(family, group);
  };
  const option = (/** @type {string} */ value, /** @type {string} */ text) => h('option', { value }, text);
  const select = h('select', { name: 'hours' }, option('', 'As long as possible'), option('24', 'One day'), option('168', 'One week'));
  return form(
    { label: 'Replace the code', act },
    h('p', { class: 'hint' }, 'Links with the old code stop working. Members stay members.'),
    h('label', { class: 'check' }, h('input', { type: 'checkbox', name: 'once' }), 'For one person: the first who joins uses it up'),
    h('label', { class: 'field valid' }, 'Valid for', select),
  );
}

/** @param {Family} family @param {Group} group @param {boolean} mayRenew @param {() => void} close */
function expired(family, group, mayRenew, close) {
  const able = group.members.filter(({ role }) => role !== 'member').map(({ username }) => username);
  if (mayRenew)
    return [
      h('p', {}, 'The invite code of this group has expired. Create a new one, and send the new link.'),
      renewForm(family, group, close),
    ];
  return [
    h('p', {}, 'The invite code of this group has expired, so nobody can be invited at the moment.'),
    h('p', {}, able.length ? `${able.join(' or ')} can create a new code.` : 'The member who made the group can make a new code.'),
  ];
}

/** @param {Group} group @param {string} code @param {string} key @param {string} userId The member's. */
function linkAndKey(group, code, key, userId) {
  const second = group.version === 2;
  const link = invitationLink(pageAddress(location), code, key, second ? userId : undefined);
  const share = { title: 'Orbital', text: `Join ${group.name}`, url: link };
  const shown = h('input', { readonly: true, value: link, 'aria-label': 'Invite link', 'data-invite': '' });
  const { expiresAt, singleUse } = group.invite;
  const ends = expiresAt ? `, until ${until(expiresAt)}` : '';
  return [
    h(
      'p',
      {},
      second && !group.moved
        ? 'Anybody with this link can join and read what is written from then on, so send it as you would hand over a house key.'
        : group.moved
          ? 'Anybody with this link can join and read what was written before the keys were renewed, and what is written from joining on, so send it as you would hand over a house key.'
          : 'Anybody with this link can join and read everything, so send it as you would hand over a house key.',
    ),
    h('div', { class: 'copy' }, shown, copyButton(link, shown)),
    'share' in navigator &&
      h('button', { type: 'button', class: 'quiet', onclick: () => navigator.share(share).catch(() => {}) }, 'Share…'),
    h('p', { class: 'hint' }, singleUse ? `One person can join with it${ends}.` : `Any number of people can join with it${ends}.`),
    h('p', { class: 'hint' }, 'The part after # stays in the browser: the server never receives it.'),
    h(
      'details',
      {},
      h('summary', {}, 'Send code and key separately'),
      h('p', { class: 'hint' }, 'Send the code one way and the key another way: neither works without the other.'),
      h(
        'dl',
        { class: 'pair' },
        h('dt', {}, 'Code'),
        h('dd', {}, h('code', {}, code)),
        h('dt', {}, 'Key'),
        h('dd', {}, h('code', {}, keyToSpeak(key))),
      ),
    ),
  ];
}

/** @param {Family} family @param {Group} group */
export async function invite(family, group) {
  const raw = await family.versions.invitation(group);
  const key = raw ? keyToText(raw) : await family.keys.text(group.wrapped);
  const mayRenew = family.membership.roleIn(group) !== 'member';
  dialog(`Invite to ${group.name}`, (close) => {
    if (!key)
      return [
        h('p', {}, 'This device can read the group, but cannot share its key: the key came from a link, and cannot be exported.'),
        h('p', {}, 'Invite from the device on which you joined, or ask another member to send the link.'),
      ];
    if (!group.code) return expired(family, group, mayRenew, close);
    const renew = mayRenew && h('details', {}, h('summary', {}, 'Replace the invite code'), renewForm(family, group, close));
    return [...linkAndKey(group, group.code, key, family.session.user_id), renew];
  });
}
