/** The thread list of a group, in order, or why it is empty. */
import { h, keyed, put } from './dom.js';
import { icon } from './icons.js';
import { lockedGroup, noGroup } from './no-threads.js';
import { excerpt } from './markdown/parse.js';
import { address } from './route.js';
import { fate } from './waiting.js';
import { counted, cut, LOCKED, time, WAITS, writing } from './words.js';

/** @import {Group, Notice, Thread, Waiting} from '../model/types.js' */
/** @import {ViewContext} from './home.js' */

/** @typedef {{kind: 'waiting', waiting: Waiting} | {kind: 'thread', thread: Thread} | {kind: 'notice', notice: Notice}} Entry */

/** @param {Group} group */
function foot(group) {
  if (group.loaded === 'failed') return 'The threads could not be loaded. They load again when the connection is back.';
  if (group.threads.size) return '';
  if (group.loaded === 'loading') return 'Loading…';
  return group.loaded === 'yes' ? 'No threads yet. Start one: a trip, a recipe, a question.' : '';
}

/** @param {Notice} notice */
const noticeLine = ({ kind, username, atMs }) => {
  const words = { joined: 'joined', left: 'left', removed: 'was removed' }[kind] ?? 'left';
  return h('li', { class: 'notice-line' }, `${username} ${words} · `, time(atMs));
};

/** @param {Entry} entry @returns {number} The number of the event that it stands for: the order of the list depends on no clock. */
const seqOf = (entry) =>
  entry.kind === 'thread' ? entry.thread.last.seq : entry.kind === 'notice' ? entry.notice.seq : Number.POSITIVE_INFINITY;

/** @param {Entry} entry */
const keyOf = (entry) =>
  entry.kind === 'thread' ? entry.thread.id : entry.kind === 'notice' ? `notice:${entry.notice.seq}` : entry.waiting.key;

/** @param {Thread} thread @returns {string} What was posted last in it. */
function lastWords({ last, body, waits }) {
  if (last.kind === 'media') return 'A photo';
  const text = last.kind === 'reply' ? last.text : body;
  return text === null ? (waits ? WAITS : LOCKED) : excerpt(text);
}

/** @param {ViewContext} context */
export function makeThreadList(context) {
  const { family } = context;
  const element = h('section', { class: 'threads', 'aria-label': 'Threads' });
  const list = h('ol', { class: 'thread-list' });
  const end = h('div', { class: 'foot' });
  let shown = '';

  const typing = (/** @type {Thread} */ { id }) => writing(family.typists.names(id));
  const isOpen = (/** @type {Thread} */ { id }) => id === context.route().threadId;

  /** @param {Entry} entry */
  const versionOf = (entry) => {
    if (entry.kind === 'notice') return '';
    if (entry.kind === 'waiting') return String(entry.waiting.error);
    const { thread } = entry;
    const { id, title, body, replies, photos, last } = thread;
    const fresh = family.reads.fresh(id);
    return JSON.stringify([
      cut(title),
      body === null,
      replies,
      photos,
      fresh,
      isOpen(thread),
      typing(thread),
      last.seq,
      last.text === null,
      last.text === null,
    ]);
  };

  /** @param {Thread} thread */
  const card = (thread) => {
    const fresh = family.reads.fresh(thread.id);
    const { last } = thread;
    const words = typing(thread);
    const badge = fresh ? h('span', { class: 'badge' }, h('span', { class: 'sr' }, ', '), fresh, h('span', { class: 'sr' }, ' new')) : null;
    const link = {
      href: address(/** @type {Group} */ (context.group()).id, thread.id),
      class: fresh ? 'card unread' : 'card',
      'aria-current': isOpen(thread) ? 'true' : null,
    };
    const author = last.mine ? 'You' : last.author;
    // The line keeps its height while somebody writes, so that the cards below stay where they are.
    const who = words ? h('em', { class: 'typing' }, words) : h('span', {}, `${author} · `, time(last.atMs));
    const title = thread.title === null ? h('em', {}, icon('lock'), 'Cannot be opened') : cut(thread.title);
    return h(
      'li',
      {},
      h(
        'a',
        link,
        h('span', { class: 'card-title', dir: 'auto' }, title, badge),
        h('span', { class: 'card-text', dir: 'auto' }, lastWords(thread)),
        h('span', { class: 'card-foot' }, who, counts(thread)),
      ),
    );
  };

  /** @param {Waiting} waiting */
  const waitingThread = (waiting) =>
    h(
      'li',
      {},
      h(
        'div',
        { class: 'card waiting' },
        h('span', { class: 'card-title', dir: 'auto' }, cut(waiting.title) || 'A thread'),
        h('span', { class: 'card-text', dir: 'auto' }, excerpt(waiting.body ?? '')),
        ...fate(family, waiting),
      ),
    );

  /** @param {Entry} entry */
  const make = (entry) =>
    entry.kind === 'thread' ? card(entry.thread) : entry.kind === 'notice' ? noticeLine(entry.notice) : waitingThread(entry.waiting);

  /** @param {Group} group @returns {Entry[]} The last active first. */
  const entries = (group) => {
    const waiting = family.outbox.waiting.filter(({ groupId, threadId }) => groupId === group.id && !threadId);
    /** @type {Entry[]} */
    const dated = [
      ...[...group.threads.values()].map((thread) => /** @type {Entry} */ ({ kind: 'thread', thread })),
      ...group.notices.map((notice) => /** @type {Entry} */ ({ kind: 'notice', notice })),
    ];
    dated.sort((a, b) => seqOf(b) - seqOf(a) || (keyOf(a) < keyOf(b) ? 1 : -1));
    return [...waiting.reverse().map((one) => /** @type {Entry} */ ({ kind: 'waiting', waiting: one })), ...dated];
  };

  /** @param {Group} group */
  const showEnd = (group) => {
    const say = foot(group);
    const wanted = `${say}${group.more}`;
    if (end.dataset.state === wanted) return;
    end.dataset.state = wanted;
    const older = () => family.threads.loadOlder(group);
    const more = group.more ? h('button', { type: 'button', class: 'quiet', onclick: older }, 'Older threads') : null;
    put(end, say ? h('p', { class: 'hint' }, say) : null, more);
  };

  /** @param {Group | undefined} group @returns {string} What is shown: the frame is made again when it changes. */
  const stateOf = (group) => {
    if (group) return `${group.id}:${Boolean(group.key)}`;
    const waiting = family.outbox.waiting.map(({ key, error }) => `${key}${error}`).join();
    return `${family.groups.size ? 'unchosen' : family.loaded}:${context.route().groupId}:${waiting}`;
  };

  return {
    element,
    show() {
      const group = context.group();
      const state = stateOf(group);
      if (state !== shown) {
        shown = state;
        if (!group) put(element, ...noGroup(context));
        else if (!group.key) put(element, ...lockedGroup(context, group));
        else {
          const begin = h('a', { class: 'primary', href: `#/g/${group.id}/new` }, icon('plus'), 'New thread');
          put(element, h('header', {}, h('h2', {}, 'Threads'), begin), list, end);
        }
      }
      if (!group?.key) return;
      keyed(list, entries(group), { keyOf, versionOf, make });
      showEnd(group);
    },
    focus() {
      /** @type {HTMLElement | null} */ (element.querySelector('[href]'))?.focus();
    },
  };
}

/** @param {Thread} thread */
function counts({ replies, photos }) {
  const one = (/** @type {'reply' | 'photo'} */ what, /** @type {number} */ count, /** @type {string} */ many) =>
    h('span', { title: counted(count, what, many) }, icon(what), count, h('span', { class: 'sr' }, count === 1 ? ` ${what}` : ` ${many}`));
  return h('span', { class: 'counts' }, one('reply', replies, 'replies'), photos ? one('photo', photos, 'photos') : null);
}
