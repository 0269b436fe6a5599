/** Fields for a new password. */
import { h, put } from './dom.js';
import { field } from './window.js';

/** @param {string} password @returns {[string, boolean][]} Each requirement, and whether it is met. */
const demands = (password) => [
  ['12 characters', password.length >= 12],
  ['a lower-case letter', /[a-z]/.test(password)],
  ['an upper-case letter', /[A-Z]/.test(password)],
  ['a digit', /\d/.test(password)],
];

/** @param {string} password @throws {Error} With what the password still needs. */
export function checkPassword(password) {
  const missing = demands(password).filter(([, met]) => !met);
  if (missing.length) throw new Error(`The password still needs ${missing.map(([what]) => what).join(', ')}.`);
}

/** A field for a new password, and what it still needs. @param {string} label @param {string} [name] */
export function newPassword(label, name = 'password') {
  const list = h('ul', { class: 'demands', 'aria-label': 'The password needs' });
  const judge = (/** @type {string} */ password) =>
    put(
      list,
      demands(password).map(([what, met]) => h('li', { class: met ? 'met' : '' }, what, h('span', { class: 'sr' }, met ? ', done' : ''))),
    );
  judge('');
  const typed = (/** @type {Event} */ event) => judge(/** @type {HTMLInputElement} */ (event.target).value);
  return [field(name, label, { type: 'password', autocomplete: 'new-password', oninput: typed }), list];
}
