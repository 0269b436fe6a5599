/** The welcome page: sign-up, log-in, and what Orbital is. */
import { newIdentity, publicJwk } from '../crypto/identity.js';
import { deviceName } from '../model/device-name.js';
import { identityName } from '../model/group-keys.js';
import { keys, probe } from '../model/vault.js';
import { h, put } from './dom.js';
import { icon, sign } from './icons.js';
import { pageAddress } from './route.js';
import { checkPassword, newPassword } from './password.js';
import { field, form, insecure } from './window.js';
import { OrbitalApi } from '/sdk/rest.js';

/** @import {Session} from '../model/types.js' */

/**
 * Log in.
 *
 * @param {Record<string, string>} values
 * @returns {Promise<Session>}
 */
async function logIn({ username = '', password = '' }) {
  await probe();
  return new OrbitalApi(pageAddress(location)).login({ username, password, device_name: deviceName(navigator.userAgent) });
}

/**
 * Create an account.
 *
 * @param {Record<string, string>} values
 * @param {string | undefined} pass The invitation, which not every server asks for.
 * @returns {Promise<Session>}
 */
async function signUp({ username = '', password = '' }, pass) {
  if (!/^\w{3,50}$/.test(username)) throw new Error('The name must have 3 to 50 characters: A to Z, a to z, 0 to 9 or _.');
  checkPassword(password);
  await probe();
  const identity = await newIdentity();
  const session = await new OrbitalApi(pageAddress(location)).signup({
    username,
    password,
    device_name: deviceName(navigator.userAgent),
    public_key: await publicJwk(identity),
    ...(pass && { invitation: pass }),
  });
  await keys.set(identityName(session.user_id), identity);
  return session;
}

/**
 * Show the form for a one-time code, of an administrator, for a person who has forgotten the password.
 *
 * @param {HTMLElement} account
 * @param {(session: Session) => void} entered
 * @param {() => void} back
 */
function showCodeForm(account, entered, back) {
  const act = async ({ code = '', password = '' }) => {
    if (!code.trim()) throw new Error('Enter the code that you received.');
    checkPassword(password);
    await probe();
    entered(await new OrbitalApi(pageAddress(location)).resetPassword(code.trim(), password));
  };
  const typed = { autocapitalize: 'characters', spellcheck: 'false', autofocus: true };
  put(
    account,
    h('h2', {}, 'One-time code'),
    h('p', {}, 'The person who runs this server gives you the code. With it you choose a new password.'),
    insecure(),
    form({ label: 'Set the password', act }, field('code', 'One-time code', typed), ...newPassword('New password')),
    h('p', { class: 'other' }, h('button', { type: 'button', class: 'link', onclick: back }, 'Back')),
  );
  account.querySelector('input')?.focus();
}

/**
 * Show the sign-up or log-in form.
 *
 * @param {HTMLElement} account
 * @param {{signingUp: boolean, invited: boolean, pass: string | undefined, shut?: string, message: string | undefined, entered: (session: Session) => void}} how `shut`: why nobody can sign up here.
 */
function showAccountForm(account, how) {
  const { signingUp, invited, pass, shut, message, entered } = how;
  const act = async ({ username = '', password = '' }) => {
    // A phone's keyboard appends a space to a completed word.
    const values = { username: username.trim(), password };
    if (!values.username || !password) throw new Error('Enter a name and a password.');
    entered(await (signingUp ? signUp(values, pass) : logIn(values)));
  };
  const name = { autocomplete: 'username', autocapitalize: 'none', spellcheck: 'false', maxlength: 60, autofocus: true };
  const secret = { type: 'password', autocomplete: 'current-password' };
  const passwords = signingUp ? newPassword('Password') : [field('password', 'Password', secret)];
  const fields = [field('username', 'Name', name), ...passwords];
  // The key of the link is only in this page's memory.
  const afterLogin = invited ? 'Open the invite link again after that.' : '';
  const change = () => showAccountForm(account, { ...how, signingUp: !signingUp, message: undefined });
  const other = h('button', { type: 'button', class: 'link', onclick: change }, signingUp ? 'Log in' : 'Create an account');
  const useCode = () => showCodeForm(account, entered, () => showAccountForm(account, how));
  const code = h('button', { type: 'button', class: 'link', onclick: useCode }, 'Use a one-time code');
  put(
    account,
    h('h2', {}, signingUp ? (pass ? 'You are invited' : 'Create an account') : 'Welcome back'),
    invited ? h('p', {}, signingUp ? 'Choose a name and a password to join the group.' : 'Log in to join the group.') : null,
    message ? h('p', { class: 'notice', role: 'status' }, message) : null,
    insecure(),
    form({ label: signingUp ? 'Create my account' : 'Log in', act, afterLogin }, ...fields),
    signingUp ? null : h('p', { class: 'other' }, 'Forgot the password? ', code),
    h('p', { class: 'other' }, ...(shut ? [`New here? ${shut}`] : [signingUp ? 'Already have an account? ' : 'New here? ', other])),
  );
  account.querySelector('input')?.focus();
}

/**
 * Show the name of the server.
 *
 * @param {HTMLElement} heading
 * @param {string | undefined} pass
 * @returns {Promise<string>} Why nobody can sign up here without another invitation; empty where one can, and where the server does not answer.
 */
async function about(heading, pass) {
  const { name = 'Orbital', signups } = await new OrbitalApi(pageAddress(location))
    .about()
    .catch(() => ({ name: undefined, signups: 'open' }));
  put(heading, name);
  if (signups === 'closed') return 'The person who runs this server creates the accounts.';
  return signups === 'invited' && !pass ? 'Ask a member, or the person who runs this server, for an invite link.' : '';
}

/** @param {'lock' | 'reply' | 'clock'} sign @param {string} strong @param {string} text */
const point = (sign, strong, text) => h('li', {}, icon(sign), h('span', {}, h('strong', {}, strong), text));

/**
 * Show the welcome page.
 *
 * @param {HTMLElement} root
 * @param {{invited: boolean, pass: string | undefined, known: boolean, message: string | undefined, entered: (session: Session) => void}} how `pass`: an invitation to create an account; `known`: somebody has logged in with this browser before.
 */
export function welcome(root, { invited, pass, known, message, entered }) {
  const account = h('section', { class: 'entry-card', 'aria-label': 'Your account' });
  const name = h('h1', {}, 'Orbital');
  const promise = h(
    'section',
    { class: 'promise', 'aria-label': 'About Orbital' },
    sign(132),
    name,
    h('p', { class: 'lead' }, 'A quiet place for your family to talk, on a computer that you choose.'),
  );
  const points = h(
    'ul',
    {},
    point(
      'lock',
      'Only you can read it. ',
      'Texts and photos are encrypted in your browser. The server forwards them and cannot read them.',
    ),
    point('reply', 'Threads, not a stream. ', 'Each topic has its own thread, and is still there tomorrow.'),
    point('clock', 'Nothing gets lost. ', 'What you write offline is saved and sent later. What you missed loads automatically.'),
  );
  put(
    root,
    h('main', { class: 'welcome' }, promise, account, h('section', { class: 'points', 'aria-label': 'What Orbital offers' }, points)),
  );
  const how = { signingUp: pass !== undefined || !known, invited, pass, message, entered };
  showAccountForm(account, how);
  void about(name, pass).then((shut) => {
    if (shut) showAccountForm(account, { ...how, signingUp: false, shut });
  });
}
