/** Before the door: sign up, log in, and what this is. */
import { publicJwk, newIdentity } from './crypto.js';
import { field, form, insecure } from './dialogs.js';
import { h, icon, put } from './dom.js';
import { identityName, keys, probe } from './vault.js';
import { OrbitalApi } from '/sdk/rest.js';

/** @typedef {import('./family.js').Session} Session */

/** @param {number} size @returns {SVGElement} The sign: a few on their paths round one middle. */
export function sign(size) {
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  const set = (/** @type {Element} */ node, /** @type {Record<string, string | number>} */ all) => {
    for (const [name, value] of Object.entries(all)) node.setAttribute(name, String(value));
    return node;
  };
  set(svg, { viewBox: '0 0 64 64', width: size, height: size, class: 'sign', 'aria-hidden': 'true' });
  const ring = (/** @type {number} */ angle) => set(document.createElementNS(svg.namespaceURI, 'ellipse'), { cx: 32, cy: 32, rx: 28, ry: 11, transform: `rotate(${angle} 32 32)`, class: 'ring' });
  const dot = (/** @type {number} */ cx, /** @type {number} */ cy, /** @type {number} */ r, /** @type {string} */ name) =>
    set(document.createElementNS(svg.namespaceURI, 'circle'), { cx, cy, r, class: name });
  svg.append(ring(-30), ring(30), ring(90), dot(32, 32, 7, 'sun'), dot(56, 18, 4, 'moon one'), dot(10, 44.7, 3.2, 'moon two'), dot(36, 59, 3.6, 'moon three'));
  return svg;
}

/** @param {string} password @returns {[string, boolean][]} What is asked of it, and whether it is so. */
const demands = (password) => [
  ['12 characters', password.length >= 12],
  ['a small letter', /[a-z]/.test(password)],
  ['a capital', /[A-Z]/.test(password)],
  ['a digit', /\d/.test(password)],
];

/**
 * Show the door.
 *
 * @param {HTMLElement} root
 * @param {{invited: boolean, message?: string | undefined, entered: (session: Session) => void}} how
 */
export function welcome(root, { invited, message, entered }) {
  const api = new OrbitalApi();
  let signingUp = invited || !localStorage.getItem('orbital-known');

  /** @param {Record<string, string>} values */
  const enter = async ({ username = '', password = '' }) => {
    if (!username || !password) throw new Error('Name and password, please.');
    if (!signingUp) {
      await probe();
      return entered(await api.login({ username, password }));
    }
    if (!/^\w{3,50}$/.test(username)) throw new Error('The name has 3 to 50 letters, digits or _.');
    const missing = demands(password).filter(([, met]) => !met);
    if (missing.length) throw new Error(`The password still needs ${missing.map(([what]) => what).join(', ')}.`);
    await probe();
    const identity = await newIdentity();
    const session = await api.signup({ username, password, public_key: await publicJwk(identity) });
    await keys.set(identityName(session.user_id), identity);
    entered(session);
  };

  const door = h('section', { class: 'door', 'aria-label': 'Your account' });
  const show = () => {
    const list = h('ul', { class: 'demands', 'aria-label': 'The password needs' });
    const judge = (/** @type {string} */ password) =>
      put(list, ...demands(password).map(([what, met]) => h('li', { class: met ? 'met' : '' }, what, h('span', { class: 'sr' }, met ? ', done' : ''))));
    judge('');
    const other = h('button', { type: 'button', class: 'link', onclick: () => ((signingUp = !signingUp), show()) });
    put(
      door,
      h('h2', {}, signingUp ? (invited ? 'You are invited' : 'Make an account') : 'Welcome back'),
      invited ? h('p', {}, signingUp ? 'Choose a name and a password, and you are in the group.' : 'Log in, and you are in the group.') : null,
      message ? h('p', { class: 'notice', role: 'status' }, message) : null,
      insecure(),
      form(
        { label: signingUp ? 'Make my account' : 'Log in', act: enter },
        field('username', 'Name', { autocomplete: 'username', autocapitalize: 'none', spellcheck: 'false', maxlength: 50, autofocus: true }),
        field('password', 'Password', {
          type: 'password',
          autocomplete: signingUp ? 'new-password' : 'current-password',
          oninput: (/** @type {Event} */ event) => judge(/** @type {HTMLInputElement} */ (event.target).value),
        }),
        ...(signingUp ? [list] : []),
      ),
      h('p', { class: 'other' }, signingUp ? 'You have an account? ' : 'New here? ', put(other, signingUp ? 'Log in' : 'Make an account')),
    );
    door.querySelector('input')?.focus();
  };

  put(
    root,
    h(
      'main',
      { class: 'welcome' },
      h(
        'section',
        { class: 'promise', 'aria-label': 'What this is' },
        sign(132),
        h('h1', {}, 'Orbital'),
        h('p', { class: 'lead' }, 'A quiet place for your family to talk, on a computer that you choose.'),
      ),
      door,
      h(
        'section',
        { class: 'points', 'aria-label': 'What it promises' },
        h(
          'ul',
          {},
          h('li', {}, icon('lock'), h('span', {}, h('strong', {}, 'Only you can read it. '), 'Words and photos are encrypted here, in your browser. The server passes on what it cannot open.')),
          h('li', {}, icon('reply'), h('span', {}, h('strong', {}, 'Threads, not a stream. '), 'Each subject keeps its own talk, and is there tomorrow.')),
          h('li', {}, icon('clock'), h('span', {}, h('strong', {}, 'Nothing gets lost. '), 'What you write offline is kept and sent later. What you missed comes by itself.')),
        ),
      ),
    ),
  );
  show();
}
