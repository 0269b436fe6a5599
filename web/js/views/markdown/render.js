/** Renders markdown as DOM nodes. Text becomes text nodes, so no member's markup can run. */
import { h } from '../dom.js';
import { parse } from './parse.js';

/** @import {Parsed} from './parse.js' */

/** @param {Parsed} parsed @returns {HTMLElement | string} */
const node = (parsed) =>
  typeof parsed === 'string' ? parsed : h(/** @type {'p'} */ (parsed.tag), parsed.props ?? {}, parsed.children.map(node));

/** @param {string} text @returns {(HTMLElement | string)[]} */
export const markdown = (text) => parse(text).map(node);
