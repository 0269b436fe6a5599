/** Icons, avatars and the logo. */
import { h } from './dom.js';

/** SVG paths in a 24 by 24 view box. */
const ICONS = {
  back: 'M15 5l-7 7 7 7',
  down: 'M12 5v14M6 13l6 6 6-6',
  plus: 'M12 5v14M5 12h14',
  clip: 'M20 11l-8.5 8.5a5 5 0 0 1-7-7L13 4a3.4 3.4 0 0 1 4.8 4.8l-8.5 8.5a1.7 1.7 0 0 1-2.4-2.4L14 7.8',
  send: 'M4 12l16-8-6 16-3-7z',
  eye: 'M2 12s3.6-7 10-7 10 7 10 7-3.6 7-10 7-10-7-10-7zM12 9a3 3 0 1 0 0 6 3 3 0 0 0 0-6z',
  close: 'M6 6l12 12M18 6L6 18',
  reply: 'M4 5h16v11H9l-5 4z',
  photo: 'M4 5h16v14H4zM4 16l5-5 4 4 3-3 4 4M15.5 8.5h.01',
  lock: 'M6 11h12v9H6zM8.5 11V8a3.5 3.5 0 0 1 7 0v3',
  people: 'M9 11a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7zM2.5 20a6.5 6.5 0 0 1 13 0M16 4.5a3.5 3.5 0 0 1 0 6.5M18.5 14.5a6.5 6.5 0 0 1 3 5.5',
  invite: 'M9.5 14.5l5-5M8 12l-2.5 2.5a3.5 3.5 0 0 0 5 5L13 17M16 12l2.5-2.5a3.5 3.5 0 0 0-5-5L11 7',
  clock: 'M12 4a8 8 0 1 0 0 16 8 8 0 0 0 0-16zM12 8v4l3 2',
  play: 'M8 5l11 7-11 7z',
  more: 'M5 12h.01M12 12h.01M19 12h.01',
  warn: 'M12 4l9 16H3zM12 10v4M12 17h.01',
};

/** @param {keyof typeof ICONS} name @returns {SVGElement} Decorative: a text or label beside it says the same. */
export function icon(name) {
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  svg.setAttribute('viewBox', '0 0 24 24');
  svg.setAttribute('class', 'icon');
  svg.setAttribute('aria-hidden', 'true');
  const path = document.createElementNS('http://www.w3.org/2000/svg', 'path');
  path.setAttribute('d', ICONS[name]);
  svg.append(path);
  return svg;
}

/** @param {string} name @returns {HTMLElement} The first letter of a name, in a colour derived from it. */
export function avatar(name) {
  let sum = 0;
  for (const letter of name) sum = (sum * 31 + letter.charCodeAt(0)) >>> 0;
  return h('span', { class: `avatar hue-${sum % 7}`, 'aria-hidden': 'true' }, name.slice(0, 1));
}

/** @param {number} size @returns {SVGElement} The logo: three dots on orbits around a centre. */
export function sign(size) {
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  const set = (/** @type {Element} */ node, /** @type {Record<string, string | number>} */ all) => {
    for (const [name, value] of Object.entries(all)) node.setAttribute(name, String(value));
    return node;
  };
  set(svg, { viewBox: '0 0 64 64', width: size, height: size, class: 'sign', 'aria-hidden': 'true' });
  const ring = (/** @type {number} */ angle) =>
    set(document.createElementNS(svg.namespaceURI, 'ellipse'), {
      cx: 32,
      cy: 32,
      rx: 28,
      ry: 11,
      transform: `rotate(${angle} 32 32)`,
      class: 'ring',
    });
  const dot = (/** @type {number} */ cx, /** @type {number} */ cy, /** @type {number} */ r, /** @type {string} */ name) =>
    set(document.createElementNS(svg.namespaceURI, 'circle'), { cx, cy, r, class: name });
  svg.append(
    ring(-30),
    ring(30),
    ring(90),
    dot(32, 32, 7, 'sun'),
    dot(56, 18, 4, 'moon one'),
    dot(10, 44.7, 3.2, 'moon two'),
    dot(36, 59, 3.6, 'moon three'),
  );
  return svg;
}
