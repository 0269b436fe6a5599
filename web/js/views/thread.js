/** One thread: its beginning, its items, who is writing, the composer, and when a thread counts as read (mark as read). */
import { makeComposer } from './composer.js';
import { h, keyed, put } from './dom.js';
import { avatar, icon, sign } from './icons.js';
import { dayLine, following, newLine, replyNode, safely, waitingReply, words } from './items.js';
import { mediaNode, shownState, uploadNode } from './media.js';
import { makeNewThread } from './new-thread.js';
import { cut, dayName, dayOf, time, writing } from './words.js';

/** @import {Group, Item, Thread, Waiting} from '../model/types.js' */
/** @import {Upload} from '../model/uploads.js' */
/** @import {ViewContext} from './home.js' */

/** Within this distance of its end, a thread keeps scrolling to its end. */
const NEAR_END_PX = 120;

/** Between the upper edge and the line before what is new. */
const LINE_GAP_PX = 8;
/** Items of one author within this time stand together, with one name and picture. */
const TOGETHER_MS = 5 * 60_000;

/**
 * @typedef {{kind: 'item', item: Item, follows: boolean} | {kind: 'waiting', waiting: Waiting} | {kind: 'upload', upload: Upload}
 *   | {kind: 'day', atMs: number} | {kind: 'new'}} Entry
 */

/**
 * Put lines between days and before what is new, and items of one author together.
 *
 * @param {Item[]} items In order.
 * @param {string | undefined} firstNew
 * @returns {Entry[]}
 */
function withLines(items, firstNew) {
  /** @type {Entry[]} */
  const entries = [];
  /** @type {Item | undefined} */
  let above;
  for (const item of items) {
    if (dayOf(item.atMs) !== (above && dayOf(above.atMs))) {
      entries.push({ kind: 'day', atMs: item.atMs });
      above = undefined;
    }
    if (item.id === firstNew) {
      entries.push({ kind: 'new' });
      above = undefined;
    }
    const follows = above?.author === item.author && above.mine === item.mine && item.atMs - above.atMs < TOGETHER_MS;
    entries.push({ kind: 'item', item, follows });
    above = item;
  }
  return entries;
}

/** @param {HTMLElement} scroll */
const isNearEnd = (scroll) => scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < NEAR_END_PX;

/** Keep the end of a thread in sight while sizes change: a picture that loads, a keyboard or drawer that opens. @param {HTMLElement} scroll @param {HTMLElement} list */
function followEnd(scroll, list) {
  let atEnd = true;
  let was = '';
  const sizes = () => `${scroll.clientHeight} ${list.clientHeight}`;
  const observer = new ResizeObserver(() => {
    was = sizes();
    if (atEnd) scroll.scrollTop = scroll.scrollHeight;
  });
  const leaveEnd = () => {
    atEnd = false;
  };
  const scrolled = () => {
    // A change of size is not a scroll by the reader: the observer handles it first.
    if (was === sizes()) atEnd = isNearEnd(scroll);
  };
  scroll.addEventListener('scroll', scrolled, { passive: true });
  observer.observe(list);
  observer.observe(scroll);
  return { leaveEnd, stop: () => observer.disconnect() };
}

/** @param {ViewContext} context @param {Group} group @param {Thread} thread */
function makeReader(context, group, thread) {
  const { family } = context;
  const list = h('ol', { class: 'items' });
  const typing = h('p', { class: 'typing', role: 'status' });
  const state = h('p', { class: 'hint' });
  const heading = h('h2', { tabindex: '-1', dir: 'auto' }, thread.title === null ? 'Cannot be opened' : cut(thread.title));
  const by = h('p', { class: 'by' }, avatar(thread.author), h('span', {}, h('strong', {}, thread.author), ' · ', time(thread.atMs)));
  const { push } = context;
  const mute = h('button', { type: 'button', class: 'quiet mute', onclick: () => void push.toggle('threads', thread.id, !muted()) });
  const muted = () => push.mute.threads.includes(thread.id);
  const showMute = () => {
    mute.hidden = !push.on;
    const label = muted() ? 'Notify me of this thread' : 'Mute this thread';
    if (mute.textContent !== label) put(mute, label);
  };
  const opening = h('article', { class: 'opening' }, heading, by, words(thread.body, thread.waits), mute);
  const toEnd = () => {
    scroll.scrollTop = scroll.scrollHeight;
  };
  const down = h('button', { type: 'button', class: 'quiet down', hidden: true, onclick: toEnd });
  const scroll = h('div', { class: 'scroll' }, opening, list, state, down);
  const composer = makeComposer(context, group, thread, toEnd);
  const end = followEnd(scroll, list);
  /** What was unread when the thread was opened, or shown again: it is marked as read at once. */
  let fresh = family.reads.fresh(thread.id);
  /** @type {string | undefined} */
  let firstNew;
  /** @type {Set<string>} Items of others that were there when the end was last in sight. */
  let seen = new Set();
  const ofOthers = () => inOrder().filter(({ mine }) => !mine);
  const inOrder = () => [...thread.items.values()].sort((a, b) => a.seq - b.seq);

  const showDown = () => {
    const near = isNearEnd(scroll);
    if (near) seen = new Set(thread.items.keys());
    const below = ofOthers().filter(({ id }) => !seen.has(id)).length;
    const label = below ? `${below} new` : 'To the end';
    if (down.hidden !== near) down.hidden = near;
    if (down.textContent !== label) put(down, icon('down'), label);
  };
  scroll.addEventListener('scroll', showDown, { passive: true });

  /** @returns {Entry[]} */
  const entries = () => {
    const waiting = family.outbox.waiting.filter(({ threadId }) => threadId === thread.id);
    const sending = [...family.uploads.all.values()].filter(({ id, threadId }) => threadId === thread.id && !thread.items.has(id));
    return [
      ...withLines(inOrder(), firstNew),
      ...waiting.map((one) => /** @type {Entry} */ ({ kind: 'waiting', waiting: one })),
      ...sending.map((upload) => /** @type {Entry} */ ({ kind: 'upload', upload })),
    ];
  };

  /** @param {Entry} entry */
  const keyOf = (entry) => {
    if (entry.kind === 'item') return entry.item.id;
    if (entry.kind === 'waiting') return entry.waiting.key;
    if (entry.kind === 'upload') return `upload:${entry.upload.id}`;
    return entry.kind === 'day' ? `day:${dayOf(entry.atMs)}` : 'new';
  };

  /** @param {Entry} entry */
  const versionOf = (entry) => {
    if (entry.kind === 'waiting') return `waiting:${entry.waiting.error}`;
    if (entry.kind === 'upload') return `upload:${shownState(family, entry.upload)}:${Math.round(entry.upload.done * 50)}`;
    if (entry.kind === 'day') return dayName(entry.atMs);
    if (entry.kind === 'new') return '';
    const { item, follows } = entry;
    const view = family.downloads.views.get(item.id);
    const locked = item.kind === 'media' ? !item.info : item.text === null;
    return `${follows}:${item.kind}:${locked}:${item.waits}:${item.gone}:${view?.state}:${view?.state === 'loading' ? Math.round(view.done * 20) : ''}`;
  };

  const make = safely((/** @type {Entry} */ entry) => {
    if (entry.kind === 'waiting') return waitingReply(family, entry.waiting);
    if (entry.kind === 'upload') return uploadNode(context, entry.upload);
    if (entry.kind === 'day') return dayLine(dayName(entry.atMs));
    if (entry.kind === 'new') return newLine();
    const node = entry.item.kind === 'media' ? mediaNode(context, group, entry.item) : replyNode(entry.item);
    return entry.follows ? following(node) : node;
  });

  const say = () => {
    if (thread.loaded === 'loading') return 'Loading…';
    return thread.loaded === 'failed' ? 'The replies could not be loaded. They load again when the connection is back.' : '';
  };

  return {
    parts: [scroll, typing, composer],
    heading,
    /** The thread is in sight: note what is new, before it is marked as read. */
    divide() {
      fresh ||= family.reads.fresh(thread.id);
      const first = fresh ? ofOthers().at(-fresh) : undefined;
      fresh = 0;
      if (!first) return;
      firstNew = first.id;
      const items = inOrder();
      seen = new Set(items.slice(0, items.indexOf(first)).map(({ id }) => id));
    },
    show() {
      const near = isNearEnd(scroll);
      const before = list.childElementCount;
      const divided = list.querySelector('.new-line') !== null;
      keyed(list, entries(), { keyOf, versionOf, make });
      const text = writing(family.typists.names(thread.id));
      if (typing.textContent !== text) typing.textContent = text;
      if (state.textContent !== say()) state.textContent = say();
      const line = list.querySelector('.new-line');
      if (line && !divided) {
        end.leaveEnd();
        // Only the thread is scrolled: scrollIntoView would move the whole page too.
        scroll.scrollTop += line.getBoundingClientRect().top - scroll.getBoundingClientRect().top - LINE_GAP_PX;
      } else if (list.childElementCount !== before && (near || before === 0)) toEnd();
      showDown();
      showMute();
    },
    stop: end.stop,
  };
}

/** @param {ViewContext} context */
export function makeThread(context) {
  const { family } = context;
  const element = h('section', { class: 'thread', 'aria-label': 'Thread' });
  /** @type {ReturnType<typeof makeReader> | undefined} */
  let reader;
  let shown = '';
  /** @type {Set<string>} Threads that the server answered with 404. */
  const missing = new Set();

  /** Load a thread beyond the loaded pages: opened by its address, a reload or a notification. @param {Group} group @param {string} id */
  const find = async (group, id) => {
    try {
      await family.threads.loadOne(group, id);
    } catch (error) {
      // Without an answer it is loaded when the connection is back.
      if (/** @type {any} */ (error).code === 'NOT_FOUND') missing.add(id);
    }
    if (!group.threads.has(id)) missing.add(id);
    family.changed();
  };

  /** @param {Group | undefined} group @param {Thread | undefined} thread @returns {string} */
  const stateOf = (group, thread) => {
    const { threadId, writing: begins } = context.route();
    if (begins && group?.key) return `new:${group.id}`;
    if (thread) return `${thread.id}:${Boolean(group?.key)}:${thread.title === null}`;
    return threadId ? `missing:${threadId}:${group?.loaded}:${missing.has(threadId)}` : `none:${group?.id}`;
  };

  /** @param {Group | undefined} group */
  const emptyText = (group) => {
    const { threadId } = context.route();
    if (!group) return '';
    if (!threadId) return 'Choose a thread, or start a new one.';
    if (!missing.has(threadId)) return group.loaded === 'yes' ? 'Loading…' : '';
    return 'This thread was not found.';
  };

  /** @param {Group | undefined} group @param {Thread | undefined} thread */
  const open = (group, thread) => {
    const { threadId, writing: begins } = context.route();
    reader?.stop();
    reader = undefined;
    if (group?.key && begins) return void put(element, makeNewThread(context, group));
    if (group && thread) {
      reader = makeReader(context, group, thread);
      put(element, ...reader.parts);
      if (thread.loaded !== 'yes') void family.threads.load(group, thread);
      return;
    }
    put(element, h('div', { class: 'empty' }, sign(72), h('p', {}, emptyText(group))));
    if (group?.loaded === 'yes' && threadId && !missing.has(threadId)) void find(group, threadId);
  };

  return {
    element,
    show() {
      const group = context.group();
      const thread = group?.threads.get(context.route().threadId ?? '');
      const state = stateOf(group, thread);
      if (state !== shown) {
        shown = state;
        open(group, thread);
      }
      family.reading = thread?.id;
      if (!thread || !reader) return;
      if (document.visibilityState === 'visible' && thread.loaded === 'yes') {
        reader.divide();
        family.markRead(thread);
      }
      reader.show();
    },
    focus() {
      if (context.route().writing) element.querySelector('input')?.focus();
      else reader?.heading.focus({ preventScroll: true });
    },
    stop: () => reader?.stop(),
  };
}
