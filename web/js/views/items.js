/** The items of a thread: replies and unsent texts. An item that cannot be rendered never hides the others. */
import { h } from './dom.js';
import { avatar, icon } from './icons.js';
import { markdown } from './markdown/render.js';
import { fate } from './waiting.js';
import { LOCKED, time, WAITS } from './words.js';

/** @import {Child} from './dom.js' */
/** @import {Family} from '../model/family.js' */
/** @import {Item, Waiting} from '../model/types.js' */

/** @param {string} author @param {boolean} mine @param {number | null} atMs @param {...Child} inside */
export const bubble = (author, mine, atMs, ...inside) =>
  h(
    'li',
    { class: mine ? 'item mine' : 'item' },
    avatar(author),
    h(
      'div',
      { class: 'bubble' },
      h('p', { class: 'by' }, h('strong', {}, mine ? 'You' : author), ...(atMs ? [' · ', time(atMs)] : [])),
      ...inside,
    ),
  );

/** @param {string | null} text @param {boolean} [waits] Whether its key may still arrive. */
export const words = (text, waits = false) =>
  h('div', { class: 'words' }, text === null ? h('p', { class: 'locked' }, icon('lock'), waits ? WAITS : LOCKED) : markdown(text));

/** @param {HTMLElement} node @returns {HTMLElement} The same, without name and picture: the item above is the same author's. */
export function following(node) {
  node.classList.add('follows');
  return node;
}

/** @param {string} text */
export const dayLine = (text) => h('li', { class: 'day-line' }, text);

/** Stands before the first item that was unread when the thread was opened. */
export const newLine = () => h('li', { class: 'new-line' }, 'New');

/** @param {Item} item */
export const replyNode = (item) => bubble(item.author, item.mine, item.atMs, words(item.text, item.waits));

/** @param {Family} family @param {Waiting} waiting */
export function waitingReply(family, waiting) {
  const node = bubble(family.session.username, true, null, words(waiting.body), ...fate(family, waiting));
  node.classList.add('waiting');
  return node;
}

/**
 * Make a node; if that throws, make one that says that the item cannot be shown.
 *
 * @template T
 * @param {(item: T) => HTMLElement} make
 * @returns {(item: T) => HTMLElement}
 */
export const safely = (make) => (item) => {
  try {
    return make(item);
  } catch {
    return bubble('?', false, null, h('p', { class: 'locked' }, icon('lock'), 'This cannot be shown.'));
  }
};
