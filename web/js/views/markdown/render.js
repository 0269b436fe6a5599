/** Renders markdown as DOM nodes. Text becomes text nodes, so no member's markup can run. */
import { h } from '../dom.js';
import { parse } from './parse.js';

/** @import {Parsed} from './parse.js' */

/** Elements with a text direction of their own: Hebrew and Arabic stand on the right, their list markers too. */
const DIRECTED = new Set(['p', 'h3', 'ul', 'ol', 'blockquote']);

/** @param {Parsed} parsed @returns {HTMLElement | string} */
const node = (parsed) => {
  if (typeof parsed === 'string') return parsed;
  const { tag, props, children } = parsed;
  return h(/** @type {'p'} */ (tag), { ...props, dir: DIRECTED.has(tag) && 'auto' }, children.map(node));
};

/** @param {string} text @returns {(HTMLElement | string)[]} */
export const markdown = (text) => parse(text).map(node);
