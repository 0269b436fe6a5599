/** Making and keeping DOM nodes. Text is always text: nothing here reads markup. */

/** @typedef {Node | string | number | null | undefined | false} Child */

/**
 * Make an element.
 *
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, any>} [props] `on…` are listeners, `class` and `aria-…` attributes; what is null, undefined or false is left out.
 * @param {...(Child | Child[])} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (name === 'value') /** @type {any} */ (element).value = value;
    else element.setAttribute(name, value === true ? '' : String(value));
  }
  return put(element, ...children);
}

/**
 * Put these in the place of what is there.
 *
 * @template {Element} E
 * @param {E} parent
 * @param {...(Child | Child[])} children
 * @returns {E}
 */
export function put(parent, ...children) {
  parent.replaceChildren(...children.flat().flatMap((child) => (child || child === 0 ? [child instanceof Node ? child : String(child)] : [])));
  return parent;
}

/**
 * Bring a parent's children to what `items` say, and touch only those that changed: focus, scroll, players and selections stay.
 *
 * @template T
 * @param {Element} parent
 * @param {T[]} items
 * @param {(item: T) => string} keyOf
 * @param {(item: T) => string} versionOf The node is made anew when this changes.
 * @param {(item: T) => Element} make
 */
export function keyed(parent, items, keyOf, versionOf, make) {
  /** @type {Map<string, Element>} */
  const had = new Map();
  for (const node of parent.children) had.set(node.getAttribute('data-key') ?? '', node);
  /** @type {Element | null} */
  let before = parent.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    const version = versionOf(item);
    let node = had.get(key);
    had.delete(key);
    if (node?.getAttribute('data-version') !== version) {
      const made = make(item);
      made.setAttribute('data-key', key);
      made.setAttribute('data-version', version);
      if (node) {
        const held = node.contains(document.activeElement);
        if (before === node) before = made;
        node.replaceWith(made);
        if (held) /** @type {HTMLElement} */ (made.querySelector('a,button') ?? made).focus();
      }
      node = made;
    }
    if (node === before) before = before.nextElementSibling;
    else parent.insertBefore(node, before);
  }
  for (const node of had.values()) node.remove();
}

/** Paths on a field of 24 by 24. */
const ICONS = {
  back: 'M15 5l-7 7 7 7',
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

/** @param {keyof typeof ICONS} name @returns {SVGElement} Decoration: the words beside it, or the label around it, say the same. */
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

/** @param {string} name @returns {HTMLElement} A person's first letter, in a colour that the name gives. */
export function avatar(name) {
  let sum = 0;
  for (const letter of name) sum = (sum * 31 + letter.charCodeAt(0)) >>> 0;
  return h('span', { class: `avatar hue-${sum % 7}`, 'aria-hidden': 'true' }, name.slice(0, 1));
}

const relative = new Intl.RelativeTimeFormat('en', { numeric: 'auto' });
const clock = new Intl.DateTimeFormat('en', { hour: '2-digit', minute: '2-digit', hour12: false });
const day = new Intl.DateTimeFormat('en', { day: 'numeric', month: 'short' });

/** @param {number} atMs @returns {string} As a person would say it. */
export function ago(atMs) {
  const minutes = Math.ceil((atMs - Date.now()) / 60_000);
  if (minutes > -1) return 'just now';
  if (minutes > -60) return relative.format(minutes, 'minute');
  const sameDay = new Date(atMs).toDateString() === new Date().toDateString();
  return sameDay ? clock.format(atMs) : `${day.format(atMs)}, ${clock.format(atMs)}`;
}

/** @param {number} atMs */
export const time = (atMs) => h('time', { datetime: new Date(atMs).toISOString(), title: new Date(atMs).toLocaleString('en') }, ago(atMs));

/** Say "3 minutes ago" again, while it is so. */
export function refreshTimes() {
  for (const node of document.querySelectorAll('time')) node.textContent = ago(Date.parse(node.dateTime));
}

/** @param {number} count @param {string} one @param {string} [many] */
export const counted = (count, one, many = `${one}s`) => `${count} ${count === 1 ? one : many}`;

/** @param {number} bytes */
export function size(bytes) {
  return bytes < 1e6 ? `${Math.max(1, Math.round(bytes / 1e3))} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}
