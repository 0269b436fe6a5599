/** The dialog with the members of a group. */
import { h, put } from '../dom.js';
import { avatar, icon } from '../icons.js';
import { dialog, form, say } from '../window.js';
import { ago, counted } from '../words.js';
import { invite } from './invite.js';

/** @import {Family} from '../../model/family.js' */
/** @import {Group, Member} from '../../model/types.js' */

/** @param {Family} family @param {Group} group @param {(groupId: string) => void} left */
export function members(family, group, left) {
  const mine = family.session.user_id;
  const own = family.membership.roleIn(group);
  return dialog('Members', (close) => {
    const row = (/** @type {Member} */ { user_id, username, joined_at, role }) => {
      const here = group.online.has(user_id);
      const remove = () => {
        close();
        removeMember(family, group, user_id, username);
      };
      const mayRemove = user_id !== mine && (own === 'founder' || (own === 'admin' && role === 'member'));
      const called = { founder: ', founder', admin: ', administrator', member: '' }[role] ?? '';
      const roles = () => {
        close();
        changeRole(family, group, { user_id, username, joined_at, role }, left);
      };
      return h(
        'li',
        {},
        avatar(username),
        h(
          'span',
          { class: 'grow' },
          h('strong', {}, username),
          user_id === mine ? ' (you)' : '',
          h('small', {}, `joined ${ago(Date.parse(joined_at))}${called}`),
        ),
        h('span', { class: here ? 'online' : 'offline' }, here ? 'online' : 'offline'),
        own === 'founder' && user_id !== mine
          ? h('button', { type: 'button', class: 'quiet', 'aria-label': `Role of ${username}`, onclick: roles }, 'Role')
          : null,
        group.begun ? devicesButton(family, group, user_id, username) : null,
        group.begun && user_id !== mine ? pastButton(family, group, user_id, username) : null,
        mayRemove ? h('button', { type: 'button', class: 'quiet', 'aria-label': `Remove ${username}`, onclick: remove }, 'Remove') : null,
      );
    };
    const inviting = () => {
      close();
      void invite(family, group);
    };
    return [
      group.key ? h('button', { type: 'button', class: 'quiet', onclick: inviting }, icon('invite'), 'Invite somebody') : null,
      h('ul', { class: 'people' }, group.members.map(row)),
      group.version === 1 && group.key && own !== 'member' ? renewal(family, group, close) : null,
      leaving(family, group, close, left),
    ];
  });
}

/** Says how many devices a member has and whether they are verified, and opens more. @param {Family} family @param {Group} group @param {string} userId @param {string} username */
function devicesButton(family, group, userId, username) {
  const open = async () => {
    const { devices } = await import('./devices.js');
    await devices(family, group, userId, username);
  };
  const button = h('button', { type: 'button', class: 'quiet', 'aria-label': `Devices of ${username}`, onclick: open }, 'Devices');
  const fill = async () => {
    const found = (await (await family.versions.load()).roster.everybody(group.id)).get(userId);
    put(button, found ? `${counted(found.devices, 'device')}${found.verified ? ', verified' : ''}` : 'Admitted by nobody here');
  };
  void fill().catch(() => {});
  return button;
}

/** Shows a member what was written before they joined. @param {Family} family @param {Group} group @param {string} userId @param {string} username */
function pastButton(family, group, userId, username) {
  const label = `Show ${username} what was written before`;
  const show = async () => {
    button.disabled = true;
    try {
      await family.membership.showPast(group, userId);
      put(button, 'Shown');
    } catch (error) {
      button.disabled = false;
      put(button, say(error));
    }
  };
  const button = h('button', { type: 'button', class: 'quiet', 'aria-label': label, onclick: show }, 'Show the past');
  return button;
}

/** @param {Family} family @param {Group} group @param {() => void} close */
function renewal(family, group, close) {
  const act = async () => {
    await family.membership.renewKeys(group);
    close();
  };
  return h(
    'details',
    {},
    h('summary', {}, 'Renew the keys of this group'),
    form(
      { label: 'Renew the keys', act },
      h(
        'p',
        { class: 'hint' },
        'From then on the keys change with every message: a stolen key opens few messages, and a removed member is given no further keys. What was written before stays readable with the old key.',
      ),
      h(
        'p',
        { class: 'hint' },
        'The browsers of the members follow by themselves. A second browser of a member asks to be admitted by the first. It cannot be undone.',
      ),
    ),
  );
}

/** @param {Family} family @param {Group} group @param {() => void} close @param {(groupId: string) => void} left */
function leaving(family, group, close, left) {
  const act = async () => {
    await family.membership.leave(group);
    close();
    left(group.id);
  };
  const hint = h('p', { class: 'hint' }, 'You no longer see anything in it. The other members keep what you wrote.');
  return h('details', {}, h('summary', {}, 'Leave this group'), form({ label: 'Leave', danger: true, act }, hint));
}

/** @param {Family} family @param {Group} group @param {Member} member @param {(groupId: string) => void} left */
function changeRole(family, group, { user_id, username, role }, left) {
  const admin = role === 'admin';
  dialog(`Role of ${username}`, (close) => [
    h(
      'p',
      {},
      admin
        ? `${username} is an administrator of the group: ${username} can invite, and remove members and photos.`
        : `As an administrator, ${username} can replace the invite code, and remove members and photos. You remain the founder.`,
    ),
    form({
      label: admin ? 'Remove the role' : 'Make an administrator',
      danger: admin,
      act: async () => {
        await family.membership.setRole(group, user_id, admin ? 'member' : 'admin');
        close();
        members(family, group, left);
      },
    }),
  ]);
}

/** @param {Family} family @param {Group} group @param {string} userId @param {string} username */
function removeMember(family, group, userId, username) {
  dialog(`Remove ${username}?`, (close) => [
    h('p', {}, `${username} no longer receives anything from the group. The invite code is replaced, so old links stop working.`),
    h(
      'p',
      {},
      group.version === 2
        ? `The next messages have new keys: ${username} can still read what they have already received.`
        : `The group's key does not change: ${username} can still read what they have already received.`,
    ),
    form({
      label: `Remove ${username}`,
      danger: true,
      act: async () => {
        await family.membership.remove(group, userId);
        void family.people.load(group);
        close();
      },
    }),
  ]);
}
