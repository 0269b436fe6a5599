/** The part of the administration about users: list, search, and what can be done about one. */
import { h, put } from '../dom.js';
import { avatar } from '../icons.js';
import { copyButton } from '../dialogs/invite.js';
import { dialog, field, form, say } from '../window.js';
import { counted, size, time, until } from '../words.js';

/** @import {OrbitalAdminApi} from '/sdk/admin.js' */
/** @import {UserEntry} from '/sdk/api-types.js' */

/** Users of one page of the list. */
const PAGE = 50;
/** Delay between the last letter of a search and its request. */
const SEARCH_MS = 250;

/** @typedef {{api: OrbitalAdminApi, myId: string}} Administration */

/** @param {string} name @param {...import('../dom.js').Child} value */
export const fact = (name, ...value) => h('div', {}, h('dt', {}, name), h('dd', {}, ...value));

/** @param {string | null} at RFC 3339. @param {string} otherwise */
const moment = (at, otherwise) => (at === null ? otherwise : time(Date.parse(at)));

/** What an account is, in words. @param {UserEntry} user @param {string} myId */
function marks({ user_id, admin, state, outside }, myId) {
  const found = [];
  if (user_id === myId) found.push('you');
  if (admin) found.push('administrator');
  if (state === 'disabled') found.push('disabled');
  if (state === 'being erased') found.push('being deleted');
  if (outside) found.push('logs in elsewhere');
  return found.join(', ');
}

/** @param {Administration} administration */
export function users({ api, myId }) {
  const list = h('ul', { class: 'people' });
  const status = h('p', { class: 'hint', role: 'status' });
  const more = h('button', { type: 'button', class: 'quiet', hidden: true, onclick: () => void load(list.childElementCount) }, 'Show more');
  let asked = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let typing;

  const row = (/** @type {UserEntry} */ user) => {
    const { username, last_seen_at, media_bytes } = user;
    const said = marks(user, myId);
    const open = () => void manage({ api, myId }, username, () => void load(0));
    return h(
      'li',
      {},
      avatar(username),
      h(
        'span',
        { class: 'grow' },
        h('strong', {}, username),
        said ? ` (${said})` : '',
        h(
          'small',
          {},
          last_seen_at ? 'last here ' : '',
          moment(last_seen_at, 'no visit recorded yet'),
          ` · ${counted(user.groups, 'group')} · ${size(media_bytes)} of media`,
        ),
      ),
      h('button', { type: 'button', class: 'quiet', 'aria-label': `Manage ${username}`, onclick: open }, 'Manage'),
    );
  };

  /** @param {number} offset */
  async function load(offset) {
    const turn = ++asked;
    try {
      const search = field_.value.trim();
      const page = await api.users({ limit: PAGE, offset, ...(search && { search }) });
      // A later request has been made meanwhile.
      if (turn !== asked) return;
      if (!offset) put(list);
      list.append(...page.users.map(row));
      more.hidden = !page.has_more;
      const count = list.childElementCount;
      put(status, count ? `${counted(count, 'user')}${page.has_more ? ', and more' : ''}` : 'No user has such a name.');
    } catch (error) {
      if (turn === asked) put(status, say(error));
    }
  }

  const searched = () => {
    clearTimeout(typing);
    typing = setTimeout(() => void load(0), SEARCH_MS);
  };
  const search = field('search', 'Search by name', { type: 'search', required: false, spellcheck: 'false', oninput: searched });
  const field_ = /** @type {HTMLInputElement} */ (search.querySelector('input'));
  void load(0);
  return [search, status, list, h('div', { class: 'actions center' }, more)];
}

/** A dialog about one user. @param {Administration} administration @param {string} name @param {() => void} changed */
async function manage(administration, name, changed) {
  const { api, myId } = administration;
  const body = h('div', { class: 'about-user' }, h('p', { class: 'hint', role: 'status' }, 'Loading…'));
  const box = dialog(name, () => [body]);
  /** Show the user again, as the server now has it. @param {string} [done] What was done. */
  const show = async (done = '') => {
    try {
      const { user, groups, sessions } = await api.user(name);
      const mine = user.user_id === myId;
      const act = (/** @type {() => Promise<void>} */ request, /** @type {string} */ said) => async () => {
        await request();
        changed();
        await show(said);
      };
      put(
        body,
        h('p', { class: 'notice', role: 'status', hidden: !done }, done),
        h(
          'dl',
          { class: 'facts' },
          fact('State', marks(user, myId) || 'active'),
          fact('Since', moment(user.created_at, '')),
          fact('Last here', moment(user.last_seen_at, 'not recorded yet')),
          fact('Sessions', String(sessions.length)),
          fact('Groups', String(groups.length)),
          fact('Media', `${user.media}, ${size(user.media_bytes)}`),
        ),
        user.disabled_reason ? h('p', {}, h('strong', {}, 'Reason: '), user.disabled_reason) : null,
        mine
          ? h('p', { class: 'hint' }, 'This is your own account: change or delete it in your account’s settings.')
          : user.state === 'being erased'
            ? h('p', { class: 'hint' }, 'This account is being deleted; that cannot be undone.')
            : [...actions(administration, user, act), deletion(administration, user, box, changed)],
      );
    } catch (error) {
      put(body, h('p', { class: 'problem', role: 'alert' }, say(error)));
    }
  };
  await show();
}

/**
 * @param {Administration} administration
 * @param {UserEntry} user
 * @param {(request: () => Promise<void>, said: string) => () => Promise<void>} act
 */
function actions({ api }, user, act) {
  const { user_id, username, state, admin, outside } = user;
  const part = (/** @type {string} */ title, /** @type {string} */ text, /** @type {Node} */ how) =>
    h('details', {}, h('summary', {}, title), h('p', { class: 'hint' }, text), how);
  const reset = h('div', {});
  const code = async () => {
    const made = await api.resetPassword(user_id);
    const shown = h('input', { readonly: true, value: made.code, 'aria-label': `One-time code for ${username}` });
    put(
      reset,
      h('div', { class: 'copy' }, shown, copyButton(made.code, shown)),
      h('p', { class: 'hint', role: 'status' }, `It is shown only now. It is valid once, until ${until(made.expires_at)}.`),
    );
  };
  return [
    !outside &&
      part(
        'One-time code for a new password',
        `Give the code to ${username}: on the login page, “Use a one-time code” sets a new password. All sessions end then.`,
        h('div', {}, form({ label: 'Make a code', act: code }), reset),
      ),
    admin
      ? part(
          'Remove the administrator’s role',
          `${username} no longer opens this page.`,
          form({
            label: 'Remove the role',
            act: act(() => api.setUserRole(user_id, 'user'), `${username} is no longer an administrator.`),
          }),
        )
      : part(
          'Make an administrator',
          `${username} can then do everything that you can do here, and sees no content either.`,
          form({ label: 'Make an administrator', act: act(() => api.setUserRole(user_id, 'admin'), `${username} is an administrator.`) }),
        ),
    state === 'disabled'
      ? part(
          'Enable the account',
          `${username} can log in again.`,
          form({ label: 'Enable', act: act(() => api.enableUser(user_id), `${username} can log in again.`) }),
        )
      : disabling(api, user, act),
  ];
}

/** @param {OrbitalAdminApi} api @param {UserEntry} user @param {(request: () => Promise<void>, said: string) => () => Promise<void>} act */
function disabling(api, { user_id, username }, act) {
  const disable = ({ reason = '' }) => act(() => api.disableUser(user_id, reason.trim()), `${username} cannot log in.`)();
  return h(
    'details',
    {},
    h('summary', {}, 'Disable the account'),
    h('p', { class: 'hint' }, 'All sessions end, and nobody can log in. Messages and memberships stay.'),
    form(
      { label: 'Disable', danger: true, act: disable },
      field('reason', `Reason, shown to ${username}`, { required: false, maxlength: 200 }),
    ),
  );
}

/** @param {Administration} administration @param {UserEntry} user @param {HTMLDialogElement} box Closed after the deletion. @param {() => void} changed */
function deletion({ api }, user, box, changed) {
  const { user_id, username, groups, media, media_bytes } = user;
  const ask = () =>
    dialog(`Delete ${username}’s account?`, (close) => [
      h('p', {}, 'This cannot be undone. It deletes at once:'),
      h(
        'ul',
        { class: 'losses' },
        h('li', {}, 'the name, the password, the keys and all sessions'),
        h('li', {}, `the membership in ${counted(groups, 'group')}: the groups see that ${username} left`),
        h('li', {}, `${counted(media, 'photo or file', 'photos and files')} (${size(media_bytes)})`),
      ),
      h(
        'p',
        {},
        `What ${username} wrote is deleted a few days later, when the server’s log ends. Other members keep what their devices received.`,
      ),
      form(
        {
          label: `Delete ${username}`,
          danger: true,
          act: async () => {
            await api.deleteUser(user_id);
            close();
            box.close();
            changed();
          },
        },
        h('div', { class: 'actions start' }, h('button', { type: 'button', class: 'quiet', onclick: close, autofocus: true }, 'Cancel')),
      ),
    ]);
  return h('div', { class: 'actions start' }, h('button', { type: 'button', class: 'danger', onclick: ask }, 'Delete the account…'));
}
