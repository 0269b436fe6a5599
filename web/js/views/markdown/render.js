/** Markdown as DOM nodes. Text goes in as text nodes: no markup of others can run. */
import { h } from '../dom.js';
import { parse } from './parse.js';

/** @import {Parsed} from './parse.js' */

/** @param {Parsed} parsed @returns {HTMLElement | string} */
const node = (parsed) =>
  typeof parsed === 'string' ? parsed : h(/** @type {'p'} */ (parsed.tag), parsed.props ?? {}, parsed.children.map(node));

/** @param {string} text @returns {(HTMLElement | string)[]} */
export const markdown = (text) => parse(text).map(node);
