/** The parts of the account dialog about one's own account: sessions, password, deletion. */
import { h, put } from '../dom.js';
import { checkPassword, newPassword } from '../password.js';
import { pageAddress } from '../route.js';
import { dialog, field, form, say } from '../window.js';
import { counted, time } from '../words.js';
import { OrbitalApi } from '/sdk/rest.js';

/** @import {Family} from '../../model/family.js' */
/** @import {LoginSession} from '/sdk/api-types.js' */
/** @import {Own} from './account.js' */

/** Sessions of one page of the list. */
const PAGE = 20;

/** Requests that carry a password stay out of what the page shows of its own requests. @param {{token: Own['token'] | string}} how */
const api = ({ token }) => new OrbitalApi(pageAddress(location), { token });

/** @param {string} name @param {string} label */
const current = (name, label) => field(name, label, { type: 'password', autocomplete: 'current-password' });

/** The part is loaded when it is opened. @param {string} title @param {(target: HTMLElement) => void} open */
function later(title, open) {
  const target = h('div', {});
  const details = h('details', {}, h('summary', {}, title), target);
  details.addEventListener('toggle', () => details.open && open(target));
  return details;
}

/** @param {Family} family */
export const sessions = (family) => later('Where you are logged in', (target) => void showSessions(family, target));

/** @param {Family} family @param {HTMLElement} target @param {string} [done] What was done. */
async function showSessions(family, target, done = '') {
  const status = h('p', { class: 'hint', role: 'status' }, done);
  const list = h('ul', { class: 'people' });
  const more = h('button', { type: 'button', class: 'quiet', hidden: true, onclick: () => void load(list.childElementCount) }, 'Show more');
  const row = (/** @type {LoginSession} */ { session_id, name, created_at, last_used_at, current }) => {
    const called = name || 'A browser or program without a name';
    const end = async () => {
      try {
        await family.ask(() => family.api.endSession(session_id));
        await showSessions(family, target, `${called}: the session is ended.`);
      } catch (error) {
        put(status, say(error));
      }
    };
    const button = { type: 'button', class: 'quiet', 'aria-label': `End the session of ${called}`, onclick: end };
    return h(
      'li',
      {},
      h(
        'span',
        { class: 'grow' },
        h('strong', {}, called),
        current ? ' (this one)' : '',
        h('small', {}, 'since ', time(Date.parse(created_at)), ', last used ', time(Date.parse(last_used_at))),
      ),
      current ? null : h('button', button, 'End'),
    );
  };
  /** @param {number} offset */
  const load = async (offset) => {
    try {
      const page = await family.ask(() => family.api.sessions({ limit: PAGE, offset }));
      list.append(...page.sessions.map(row));
      more.hidden = !page.has_more;
    } catch (error) {
      put(status, say(error));
    }
  };
  // Loaded before it is shown: a list that is shown again is never empty meanwhile.
  await load(0);
  put(
    target,
    h('p', { class: 'hint' }, 'End a session that you do not know, and change your password then.'),
    status,
    list,
    h('div', { class: 'actions center' }, more),
  );
}

/** @param {Own} own */
export function password(own) {
  const done = h('p', { class: 'notice', role: 'status', hidden: true }, 'Your password is changed. All other devices are logged out.');
  const act = async ({ old = '', password = '' }) => {
    done.hidden = true;
    if (!old) throw new Error('Enter your present password.');
    checkPassword(password);
    await own.replace((token) => api({ token }).changePassword(old, password)).catch(wrong);
    for (const input of box.querySelectorAll('input')) input.value = '';
    done.hidden = false;
  };
  const box = h(
    'details',
    {},
    h('summary', {}, 'Change the password'),
    h('p', { class: 'hint' }, 'All other devices are logged out. The keys of your groups stay where they are.'),
    form({ label: 'Change the password', act }, current('old', 'Present password'), ...newPassword('New password')),
    done,
  );
  return box;
}

/** @param {any} error */
function wrong(error) {
  throw error.code === 'INVALID_CREDENTIALS' ? new Error('The password is wrong.', { cause: error }) : error;
}

/** What a deletion would lose that nobody else has. @param {Family} family @returns {string[]} */
function only({ groups }) {
  return [...groups.values()].filter(({ memberCount }) => memberCount === 1).map(({ name }) => name ?? 'a locked group');
}

/** @param {Family} family @param {Own} own */
export function deletion(family, own) {
  const alone = only(family);
  const ask = () =>
    dialog('Delete your account?', (close) => [
      h('p', {}, 'This cannot be undone. It deletes at once:'),
      h(
        'ul',
        { class: 'losses' },
        h('li', {}, 'your name, your password and all sessions'),
        h('li', {}, `your membership in ${counted(family.groups.size, 'group')}: the members see that you left`),
        alone.length ? h('li', {}, `everything in ${alone.join(', ')}: you are the only member`) : null,
        h('li', {}, 'your photos and files on the server'),
        h('li', {}, 'the keys and drafts in this browser'),
      ),
      h('p', {}, 'What you wrote is deleted from the server a few days later. Other members keep what their devices received.'),
      form(
        {
          label: 'Delete my account',
          danger: true,
          act: async ({ password = '' }) => {
            if (!password) throw new Error('Enter your password.');
            await api(own).deleteAccount(password).catch(wrong);
            await own.deleted();
          },
        },
        current('password', 'Your password'),
        h('div', { class: 'actions start' }, h('button', { type: 'button', class: 'quiet', onclick: close }, 'Cancel')),
      ),
    ]);
  return h(
    'details',
    {},
    h('summary', {}, 'Delete the account'),
    h('p', { class: 'hint' }, 'You leave all groups, and your name and password are deleted.'),
    h('div', { class: 'actions start' }, h('button', { type: 'button', class: 'danger', onclick: ask }, 'Delete the account…')),
  );
}
