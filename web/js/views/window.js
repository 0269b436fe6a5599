/** Dialogs, forms, and the text of an error. A dialog is the native element, which handles focus and Escape. */
import { canEncrypt } from '../crypto/envelope.js';
import { LOGIN_NEEDED } from '../model/connection.js';
import { isLoginProxy, loginAddress } from '../model/login-proxy.js';
import { h, put } from './dom.js';
import { icon } from './icons.js';

/** @import {Child} from './dom.js' */

let count = 0;

/**
 * Open a dialog.
 *
 * @param {string} title
 * @param {(close: () => void) => Child[]} make
 */
export function dialog(title, make) {
  const id = `dialog-${++count}`;
  const close = () => box.close();
  const pressed = (/** @type {MouseEvent} */ event) => event.target === box && close();
  const box = h('dialog', { 'aria-labelledby': id, onclose: () => box.remove(), onclick: pressed });
  const shut = h('button', { type: 'button', class: 'quiet round', 'aria-label': 'Close', onclick: close }, icon('close'));
  put(box, h('div', { class: 'dialog' }, h('header', {}, h('h2', { id }, title), shut), ...make(close)));
  document.body.append(box);
  box.showModal();
  return box;
}

/**
 * A form that shows its error, and cannot be submitted twice at once.
 *
 * @param {{label: string, act: (values: Record<string, string>) => Promise<unknown>, danger?: boolean, afterLogin?: string}} how `afterLogin`: what to do
 *   after the login of a proxy in front of the server.
 * @param {...Node} fields
 */
export function form({ label, act, danger, afterLogin = '' }, ...fields) {
  const problem = h('p', { class: 'problem', role: 'alert' });
  const button = h('button', { class: danger ? 'danger' : 'primary' }, label);
  const submitted = async (/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    const values = Object.fromEntries(new FormData(/** @type {HTMLFormElement} */ (event.currentTarget)));
    button.disabled = true;
    put(problem);
    try {
      await act(/** @type {any} */ (values));
    } catch (error) {
      put(problem, say(error));
      if (isLoginProxy(error)) problem.append(` ${afterLogin} `, loginButton());
    }
    button.disabled = false;
  };
  return h('form', { novalidate: true, onsubmit: submitted }, ...fields, problem, h('div', { class: 'actions' }, button));
}

/** A button that opens the login of the proxy in front of the server. The page returns to where it was. */
export const loginButton = () =>
  h('button', { type: 'button', class: 'quiet', onclick: () => location.assign(loginAddress(location, sessionStorage)) }, 'Open the login');

/** @param {unknown} error @returns {string} A sentence that says what to do. */
export function say(error) {
  const { code, message, retryAfterMs } = /** @type {any} */ (error);
  if (code === 'NETWORK') return 'The server cannot be reached. Try again in a moment.';
  // An answer of a proxy or captive portal says nothing about the request.
  if (isLoginProxy(error)) return LOGIN_NEEDED;
  if (/^HTTP_/.test(code)) return 'A proxy answered instead of the server. Try again in a moment.';
  if (code === 'TOO_MANY_REQUESTS') return `Too many attempts. Try again in ${Math.max(1, Math.ceil(retryAfterMs / 60_000))} min.`;
  if (code === 'INVALID_CREDENTIALS') return 'The name or the password is wrong.';
  if (code === 'USERNAME_TAKEN') return 'This name is taken. Choose another one.';
  return message || String(error);
}

/**
 * @param {string} name
 * @param {string} label
 * @param {Record<string, any>} [props]
 * @param {string} [hint]
 */
export function field(name, label, props = {}, hint = '') {
  const id = `field-${++count}`;
  return h(
    'div',
    { class: 'field' },
    h('label', { for: id }, label),
    h('input', { id, name, autocomplete: 'off', required: true, 'aria-describedby': hint && `${id}-hint`, ...props }),
    hint ? h('p', { class: 'hint', id: `${id}-hint` }, hint) : null,
  );
}

/** @returns {HTMLElement | null} The error when this page cannot encrypt. */
export const insecure = () =>
  canEncrypt()
    ? null
    : h(
        'p',
        { class: 'problem', role: 'alert' },
        'This address is not encrypted (http), so the browser cannot encrypt here. Open it with https, or as localhost on the server itself.',
      );
