/** A little markdown, made into DOM nodes. Whatever is not known here stays text: no markup of others can run. */
import { h } from './dom.js';

/** @typedef {(Node | string)[]} Nodes */

/** What a link may lead to. @param {string} address @returns {string | null} */
export function safeAddress(address) {
  try {
    // Control characters and spaces are how `java\nscript:` gets past a look at the text.
    if (/[\u0000-\u0020]/.test(address)) return null;
    const { protocol, href } = new URL(address);
    return /^(https?|mailto):$/.test(protocol) ? href : null;
  } catch {
    return null;
  }
}

/** @param {string} address @param {Nodes} children */
const link = (address, children) => {
  const href = safeAddress(address);
  return href ? h('a', { href, target: '_blank', rel: 'noopener noreferrer nofollow' }, ...children) : null;
};

/** One inline thing at the place where it begins. Every branch is linear: no text can make it slow. */
const INLINE =
  /`([^`\n]{1,2000})`|\*\*(?=\S)([^*\n]{1,2000})\*\*|~~(?=\S)([^~\n]{1,2000})~~|\*(?=\S)([^*\n]{1,2000})\*|\b_(?=\S)([^_\n]{1,2000})_\b|\[([^[\]\n]{1,500})\]\(([^()\s]{1,2000})\)|\bhttps?:\/\/[^\s<>"'`]{1,2000}/g;

/**
 * @param {string} text
 * @param {number} [depth]
 * @returns {Nodes}
 */
function inline(text, depth = 0) {
  /** @type {Nodes} */
  const nodes = [];
  let at = 0;
  for (const found of text.matchAll(INLINE)) {
    const [whole, code, bold, struck, slanted, underscored, label, address] = found;
    /** @param {string} inner */
    const within = (inner) => (depth < 4 ? inline(inner, depth + 1) : [inner]);
    let node = null;
    let used = whole.length;
    if (code !== undefined) node = h('code', {}, code);
    else if (bold !== undefined) node = h('strong', {}, ...within(bold));
    else if (struck !== undefined) node = h('s', {}, ...within(struck));
    else if (slanted !== undefined || underscored !== undefined) node = h('em', {}, ...within(slanted ?? underscored ?? ''));
    else if (label !== undefined) node = link(address ?? '', [label]);
    else {
      const bare = whole.replace(/[.,;:!?)\]]+$/, '');
      used = bare.length;
      node = link(bare, [bare]);
    }
    if (!node) continue;
    if (found.index > at) nodes.push(text.slice(at, found.index));
    nodes.push(node);
    at = found.index + used;
  }
  if (at < text.length) nodes.push(text.slice(at));
  return nodes;
}

/** @param {string[]} lines @returns {Nodes} With a break between them. */
const broken = (lines) => lines.flatMap((line, index) => [...(index ? [h('br')] : []), ...inline(line)]);

/**
 * Render a text.
 *
 * @param {string} text
 * @returns {HTMLElement[]}
 */
export function markdown(text) {
  /** @type {HTMLElement[]} */
  const blocks = [];
  const lines = text.replace(/\r\n?/g, '\n').split('\n');
  let at = 0;
  /** @param {RegExp} like @returns {string[]} The lines from here on that look so, without what made them look so. */
  const take = (like) => {
    const taken = [];
    for (let found; at < lines.length && (found = like.exec(lines[at] ?? '')); at++) taken.push(found[1] ?? '');
    return taken;
  };
  while (at < lines.length) {
    const line = lines[at] ?? '';
    if (!line.trim()) at++;
    else if (line.startsWith('```')) {
      at++;
      const code = take(/^(?!```)(.*)$/);
      at++;
      blocks.push(h('pre', { tabindex: '0' }, h('code', {}, code.join('\n'))));
    } else if (/^#{1,6} /.test(line)) {
      at++;
      blocks.push(h('h3', {}, ...inline(line.replace(/^#{1,6} +/, ''))));
    } else if (/^(-{3,}|\*{3,})$/.test(line.trim())) {
      at++;
      blocks.push(h('hr'));
    } else if (/^> ?/.test(line)) blocks.push(h('blockquote', {}, ...broken(take(/^> ?(.*)$/))));
    else if (/^[-*+] /.test(line)) blocks.push(h('ul', {}, take(/^[-*+] +(.*)$/).map((item) => h('li', {}, ...inline(item)))));
    else if (/^\d{1,9}[.)] /.test(line)) {
      const start = parseInt(line, 10);
      blocks.push(h('ol', { start }, take(/^\d{1,9}[.)] +(.*)$/).map((item) => h('li', {}, ...inline(item)))));
    } else {
      // The first line is taken whatever it looks like, so that this always moves on.
      at++;
      const rest = take(/^(?!\s*$|```|#{1,6} |> ?|[-*+] |\d{1,9}[.)] )(.*)$/);
      blocks.push(h('p', {}, ...broken([line, ...rest])));
    }
  }
  return blocks;
}

/** @param {string} text @returns {string} One line of it, without its marks, for a list. */
export const excerpt = (text) =>
  text
    .slice(0, 400)
    .replace(/\[([^\]]*)\]\([^)]*\)/g, '$1')
    .replace(/^\s*[-+*] +/gm, '• ')
    .replace(/[*_~`#>]+/g, '')
    .replace(/\s+/g, ' ')
    .trim();
