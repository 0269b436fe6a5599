/** What is shown instead of threads: a locked group, no group, no server. */
import { readInvitation } from '../model/invitation.js';
import { joinGroup, newGroup } from './dialogs/groups.js';
import { h } from './dom.js';
import { icon, sign } from './icons.js';
import { waitingCard } from './waiting.js';
import { field, form } from './window.js';

/** @import {Group} from '../model/types.js' */
/** @import {ViewContext} from './home.js' */

/** @param {ViewContext} context @param {Group} group */
export function lockedGroup(context, group) {
  const { family } = context;
  const act = async ({ link = '' }) => {
    const reading = readInvitation(link);
    if (!('raw' in reading)) throw new Error('This is not a complete link or key. A letter may be missing or wrong.');
    await family.membership.unlock(group, reading.raw);
  };
  const opened = () => context.later(import('./dialogs/members.js'), ({ members }) => members(family, group, () => context.leaveGroup()));
  return [
    h('header', {}, h('h2', {}, 'Locked')),
    h(
      'div',
      { class: 'empty' },
      icon('lock'),
      h('p', {}, 'This device does not have the key of this group, so it cannot show what the group wrote.'),
      h('p', {}, 'Open an invite link of the group here, or paste it. Any member can send you one; an old link works too.'),
      form({ label: 'Unlock', act }, field('link', 'Link or key', { spellcheck: 'false' })),
      h('button', { type: 'button', class: 'quiet', onclick: opened }, 'Members'),
    ),
  ];
}

/** @param {ViewContext} context */
function waitingTexts({ family }) {
  const waiting = family.outbox.waiting.filter(({ groupId }) => !family.groups.has(groupId));
  if (!waiting.length) return null;
  return h(
    'section',
    { class: 'kept', 'aria-label': 'Waiting to be sent' },
    h('h3', {}, 'Waiting to be sent'),
    h(
      'ol',
      { class: 'thread-list' },
      waiting.map((one) => waitingCard(family, one)),
    ),
  );
}

/** @param {ViewContext} context */
export function noGroup(context) {
  const { family, go } = context;
  const kept = waitingTexts(context);
  if (family.groups.size) {
    const { groupId } = context.route();
    const text = groupId
      ? 'You are not a member of this group. You may have left it, or you are logged in with another account.'
      : 'Choose a group.';
    return [h('p', { class: 'hint pad' }, text), kept];
  }
  if (family.loaded === 'failed') {
    const text = 'The server cannot be reached. Your groups appear here when it is back.';
    return [h('div', { class: 'empty' }, icon('clock'), h('p', {}, text)), kept];
  }
  if (family.loaded !== 'yes') return [h('p', { class: 'hint pad' }, 'Loading your groups…'), kept];
  const make = () => newGroup(family, go);
  const join = () => joinGroup(family, go);
  return [
    h(
      'div',
      { class: 'empty' },
      sign(96),
      h('h2', {}, `Hello, ${family.session.username}`),
      h('p', {}, 'You are not in a group yet. Create one for your family and invite them, or open an invite link that somebody sent you.'),
      h(
        'div',
        { class: 'actions center' },
        h('button', { type: 'button', class: 'primary', onclick: make }, 'Create a group'),
        h('button', { type: 'button', class: 'quiet', onclick: join }, 'Join with a link'),
      ),
    ),
    kept,
  ];
}
