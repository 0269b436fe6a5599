/** The dialog with two histories of a group: both hashes of one event, and what a person can do. */
import { h } from '../dom.js';
import { dialog, form } from '../window.js';

/** @import {Family} from '../../model/family.js' */
/** @import {Group} from '../../model/types.js' */

/** @param {string} hash @returns {string} In blocks, to be compared. */
const spaced = (hash) => (hash.match(/.{1,4}/g) ?? ['nothing']).join(' ');

/** @param {Family} family @param {Group} group */
export function histories(family, group) {
  const stopped = family.versions.placeIn(group)?.stopped;
  if (!stopped) return;
  const { seq, ours, theirs, by } = stopped;
  const other = by ? (group.members.find(({ user_id }) => user_id === by)?.username ?? 'A former member') : 'The server, now';
  dialog('Two histories', (close) => [
    h(
      'p',
      {},
      by
        ? `What the server showed to you as number ${seq} of this group is not what it showed to ${other}: it hid, added or changed something for one of you.`
        : `The server shows another number ${seq} of this group than it showed before.`,
    ),
    h(
      'dl',
      { class: 'pair histories' },
      h('dt', {}, 'Here'),
      h('dd', {}, h('code', {}, spaced(ours))),
      h('dt', {}, other),
      h('dd', {}, h('code', {}, spaced(theirs))),
    ),
    h('p', {}, 'Talk to the others in another way, and to the person who runs the server. Texts that you write here wait in this browser.'),
    form(
      {
        label: 'Send all the same',
        danger: true,
        act: async () => {
          await (await family.versions.load()).roster.resume(group.id);
          close();
        },
      },
      h('p', { class: 'hint' }, 'If the next message shows two histories again, sending stops again.'),
    ),
  ]);
}
