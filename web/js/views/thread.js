/** One thread: its beginning, its items, who is writing, and the composer. */
import { makeComposer } from './composer.js';
import { h, keyed, put } from './dom.js';
import { avatar, sign } from './icons.js';
import { replyNode, safely, waitingReply, words } from './items.js';
import { mediaNode, shownState, uploadNode } from './media.js';
import { makeNewThread } from './new-thread.js';
import { cut, time, writing } from './words.js';

/** @import {Group, Item, Thread, Waiting} from '../model/types.js' */
/** @import {Upload} from '../model/uploads.js' */
/** @import {Place} from './home.js' */

/** Within this distance of its end, a thread keeps scrolling to its end. */
const NEAR_END_PX = 120;

/** @typedef {{kind: 'item', item: Item} | {kind: 'waiting', waiting: Waiting} | {kind: 'upload', upload: Upload}} Entry */

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
  const scrolled = () => {
    // A change of size is not a scroll by the reader: the observer handles it first.
    if (was === sizes()) atEnd = isNearEnd(scroll);
  };
  scroll.addEventListener('scroll', scrolled, { passive: true });
  observer.observe(list);
  observer.observe(scroll);
  return observer;
}

/** @param {Place} place @param {Group} group @param {Thread} thread */
function makeReader(place, group, thread) {
  const { family } = place;
  const list = h('ol', { class: 'items' });
  const typing = h('p', { class: 'typing', role: 'status' });
  const state = h('p', { class: 'hint' });
  const heading = h('h2', { tabindex: '-1', dir: 'auto' }, thread.title === null ? 'Cannot be opened' : cut(thread.title));
  const by = h('p', { class: 'by' }, avatar(thread.author), h('span', {}, h('strong', {}, thread.author), ' · ', time(thread.atMs)));
  const opening = h('article', { class: 'opening' }, heading, by, words(thread.body));
  const scroll = h('div', { class: 'scroll' }, opening, list, state);
  const toEnd = () => {
    scroll.scrollTop = scroll.scrollHeight;
  };
  const composer = makeComposer(place, group, thread, toEnd);
  const observer = followEnd(scroll, list);

  /** @returns {Entry[]} */
  const entries = () => {
    const items = [...thread.items.values()].sort((a, b) => a.atMs - b.atMs || (a.id < b.id ? -1 : 1));
    const waiting = family.outbox.waiting.filter(({ threadId }) => threadId === thread.id);
    const sending = [...family.uploads.all.values()].filter(({ id, threadId }) => threadId === thread.id && !thread.items.has(id));
    return [
      ...items.map((item) => /** @type {Entry} */ ({ kind: 'item', item })),
      ...waiting.map((one) => /** @type {Entry} */ ({ kind: 'waiting', waiting: one })),
      ...sending.map((upload) => /** @type {Entry} */ ({ kind: 'upload', upload })),
    ];
  };

  /** @param {Entry} entry */
  const keyOf = (entry) =>
    entry.kind === 'item' ? entry.item.id : entry.kind === 'waiting' ? entry.waiting.key : `upload:${entry.upload.id}`;

  /** @param {Entry} entry */
  const versionOf = (entry) => {
    if (entry.kind === 'waiting') return `waiting:${entry.waiting.error}`;
    if (entry.kind === 'upload') return `upload:${shownState(family, entry.upload)}:${Math.round(entry.upload.done * 50)}`;
    const { item } = entry;
    const view = family.downloads.views.get(item.id);
    return `${item.kind}:${item.gone}:${view?.state}:${view?.state === 'loading' ? Math.round(view.done * 20) : ''}`;
  };

  const make = safely((/** @type {Entry} */ entry) => {
    if (entry.kind === 'waiting') return waitingReply(family, entry.waiting);
    if (entry.kind === 'upload') return uploadNode(place, entry.upload);
    return entry.item.kind === 'media' ? mediaNode(place, group, entry.item) : replyNode(entry.item);
  });

  const say = () => {
    if (thread.loaded === 'loading') return 'Loading…';
    return thread.loaded === 'failed' ? 'The replies could not be loaded. They load again when the connection is back.' : '';
  };

  return {
    parts: [scroll, typing, composer],
    heading,
    show() {
      const near = isNearEnd(scroll);
      const before = list.childElementCount;
      keyed(list, entries(), { keyOf, versionOf, make });
      const text = writing(family.typists.names(thread.id));
      if (typing.textContent !== text) typing.textContent = text;
      if (state.textContent !== say()) state.textContent = say();
      if (list.childElementCount !== before && (near || before === 0)) toEnd();
    },
    stop: () => observer.disconnect(),
  };
}

/** @param {Place} place */
export function makeThread(place) {
  const { family } = place;
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
    const { threadId, writing: begins } = place.route();
    if (begins && group?.key) return `new:${group.id}`;
    if (thread) return `${thread.id}:${Boolean(group?.key)}`;
    return threadId ? `missing:${threadId}:${group?.loaded}:${missing.has(threadId)}` : `none:${group?.id}`;
  };

  /** @param {Group | undefined} group */
  const emptyText = (group) => {
    const { threadId } = place.route();
    if (!group) return '';
    if (!threadId) return 'Choose a thread, or start a new one.';
    if (!missing.has(threadId)) return group.loaded === 'yes' ? 'Loading…' : '';
    return 'This thread was not found.';
  };

  /** @param {Group | undefined} group @param {Thread | undefined} thread */
  const open = (group, thread) => {
    const { threadId, writing: begins } = place.route();
    reader?.stop();
    reader = undefined;
    if (group?.key && begins) return void put(element, makeNewThread(place, group));
    if (group && thread) {
      reader = makeReader(place, group, thread);
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
      const group = place.group();
      const thread = group?.threads.get(place.route().threadId ?? '');
      const state = stateOf(group, thread);
      if (state !== shown) {
        shown = state;
        open(group, thread);
      }
      family.reading = thread?.id;
      if (!thread || !reader) return;
      if (document.visibilityState === 'visible' && thread.loaded === 'yes') family.markRead(thread);
      reader.show();
    },
    focus() {
      if (place.route().writing) element.querySelector('input')?.focus();
      else reader?.heading.focus({ preventScroll: true });
    },
    stop: () => reader?.stop(),
  };
}
