/** Creates and updates DOM nodes. Strings become text nodes: nothing here parses markup. */

/** @typedef {Node | string | number | null | undefined | false} Child */

/**
 * Make an element.
 *
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, any>} [props] `on…` are listeners, `class` and `aria-…` attributes; null, undefined and false are left out.
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
 * Replace the children of an element. Lists are given as arrays, of any length.
 *
 * @template {Element} E
 * @param {E} parent
 * @param {...(Child | Child[])} children
 * @returns {E}
 */
export function put(parent, ...children) {
  parent.replaceChildren();
  for (const child of children.flat()) if (child || child === 0) parent.append(child instanceof Node ? child : String(child));
  return parent;
}

/**
 * Update a parent's children to match `items`, and touch only those that changed: focus, scroll, players and selections stay.
 *
 * @template T
 * @param {Element} parent
 * @param {T[]} items
 * @param {object} how
 * @param {(item: T) => string} how.keyOf
 * @param {(item: T) => string} how.versionOf The node is made again when this changes.
 * @param {(item: T) => Element} how.make
 */
export function keyed(parent, items, { keyOf, versionOf, make }) {
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
      if (node && before === node) before = made;
      if (node) replace(node, made);
      node = made;
    }
    if (node === before) before = before.nextElementSibling;
    else parent.insertBefore(node, before);
  }
  for (const node of had.values()) node.remove();
}

/** @param {Element} node @param {Element} made The focus moves with it. */
function replace(node, made) {
  const held = node.contains(document.activeElement);
  node.replaceWith(made);
  if (held) /** @type {HTMLElement} */ (made.querySelector('a,button') ?? made).focus();
}
