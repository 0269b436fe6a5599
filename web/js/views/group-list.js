/** The list of groups, with the actions to create and join one. */
import { joinGroup, newGroup } from './dialogs/groups.js';
import { h, keyed } from './dom.js';
import { avatar, icon } from './icons.js';
import { address } from './route.js';
import { counted } from './words.js';

/** @import {Group} from '../model/types.js' */
/** @import {ViewContext} from './home.js' */

/** @param {ViewContext} context */
export function makeGroupList(context) {
  const { family, go } = context;
  const list = h('ul', { class: 'group-list' });
  const element = h(
    'nav',
    { class: 'groups', 'aria-label': 'Groups' },
    h('h2', {}, 'Groups'),
    list,
    h(
      'div',
      { class: 'actions start column' },
      h('button', { type: 'button', class: 'quiet', onclick: () => newGroup(family, go) }, icon('plus'), 'New group'),
      h('button', { type: 'button', class: 'quiet', onclick: () => joinGroup(family, go) }, icon('invite'), 'Join a group'),
    ),
  );
  const isOpen = (/** @type {Group} */ { id }) => id === context.route().groupId;

  /** @param {Group} group */
  const make = (group) => {
    const unread = family.unreadIn(group);
    const badge = unread ? h('span', { class: 'badge' }, String(unread), h('span', { class: 'sr' }, ' unread')) : null;
    const words = h('span', { class: 'grow' }, group.name ?? 'Locked group', h('small', {}, counted(group.memberCount, 'member')));
    const link = { href: address(group.id), 'aria-current': isOpen(group) ? 'page' : null };
    return h('li', {}, h('a', link, avatar(group.name ?? '?'), words, badge));
  };

  return {
    element,
    show() {
      keyed(list, [...family.groups.values()], {
        keyOf: ({ id }) => id,
        versionOf: (group) => JSON.stringify([group.name, family.unreadIn(group), group.memberCount, isOpen(group)]),
        make,
      });
    },
  };
}
