/** The small windows: new group, join, invite, members, account. Each is a native dialog, which keeps focus and Escape in order. */
import { canEncrypt, keyFromText } from './crypto.js';
import { ago, avatar, h, icon, put } from './dom.js';

/** @typedef {import('./family.js').Family} Family */
/** @typedef {import('./family.js').Group} Group */

let count = 0;

/**
 * Open a window.
 *
 * @param {string} title
 * @param {(close: () => void) => (Node | string | false | null)[]} make
 */
export function dialog(title, make) {
  const id = `dialog-${++count}`;
  const close = () => box.close();
  const box = h('dialog', { 'aria-labelledby': id, onclose: () => box.remove(), onclick: (/** @type {MouseEvent} */ event) => event.target === box && close() });
  const shut = h('button', { type: 'button', class: 'quiet round', 'aria-label': 'Close', onclick: close }, icon('close'));
  put(box, h('div', { class: 'dialog' }, h('header', {}, h('h2', { id }, title), shut), ...make(close)));
  document.body.append(box);
  box.showModal();
  return box;
}

/**
 * A form that says what went wrong, and cannot be sent twice.
 *
 * @param {{label: string, act: (values: Record<string, string>) => Promise<unknown>, danger?: boolean}} how
 * @param {...Node} fields
 */
export function form({ label, act, danger }, ...fields) {
  const problem = h('p', { class: 'problem', role: 'alert' });
  const button = h('button', { class: danger ? 'danger' : 'primary' }, label);
  return h(
    'form',
    {
      novalidate: true,
      onsubmit: async (/** @type {SubmitEvent} */ event) => {
        event.preventDefault();
        const values = Object.fromEntries(new FormData(/** @type {HTMLFormElement} */ (event.currentTarget)));
        button.disabled = true;
        put(problem);
        try {
          await act(/** @type {any} */ (values));
        } catch (error) {
          put(problem, say(error));
        }
        button.disabled = false;
      },
    },
    ...fields,
    problem,
    h('div', { class: 'actions' }, button),
  );
}

/** @param {unknown} error @returns {string} What a person can do something with. */
export function say(error) {
  const { code, message, retryAfterMs } = /** @type {any} */ (error);
  if (code === 'NETWORK') return 'The server cannot be reached just now. Try again in a moment.';
  if (code === 'TOO_MANY_REQUESTS') return `That was tried too often. Try again in ${Math.max(1, Math.ceil(retryAfterMs / 60_000))} min.`;
  if (code === 'INVALID_CREDENTIALS') return 'This name and password do not go together.';
  if (code === 'USERNAME_TAKEN') return 'This name is taken. Choose another one.';
  return message || String(error);
}

/**
 * @param {string} name
 * @param {string} label
 * @param {Record<string, any>} [props]
 * @param {string} [hint]
 */
export function field(name, label, props = {}, hint) {
  const id = `field-${++count}`;
  return h(
    'div',
    { class: 'field' },
    h('label', { for: id }, label),
    h('input', { id, name, autocomplete: 'off', required: true, 'aria-describedby': hint && `${id}-hint`, ...props }),
    hint ? h('p', { class: 'hint', id: `${id}-hint` }, hint) : null,
  );
}

/**
 * Read an invitation: a link, or a code and a key.
 *
 * @param {string} link A link, its fragment, or a code.
 * @param {string} [key]
 * @returns {{code: string, raw: Uint8Array<ArrayBuffer>} | null}
 */
export function readInvitation(link, key = '') {
  const [, code, text] = /#?join=([A-Z0-9]{8})\.([\w-]{43})/i.exec(link) ?? [null, link.replace(/[\s-]/g, ''), key];
  const raw = keyFromText(text ?? '');
  return raw && /^[A-Z0-9]{8}$/i.test(code ?? '') ? { code: /** @type {string} */ (code).toUpperCase(), raw } : null;
}

/** @param {string} code @param {string} key */
export const invitationLink = (code, key) => `${location.origin}/#join=${code}.${key}`;

/** @param {Family} family @param {(groupId: string) => void} go */
export function newGroup(family, go) {
  dialog('A new group', (close) => [
    h('p', {}, 'Name it as you speak of it. The name is encrypted too.'),
    form(
      {
        label: 'Make the group',
        act: async ({ name = '' }) => {
          if (!name.trim()) throw new Error('The group needs a name.');
          go(await family.createGroup(name.trim()));
          close();
        },
      },
      field('name', 'Name', { maxlength: 80, autofocus: true, placeholder: 'The Lovelaces' }),
    ),
  ]);
}

/** @param {Family} family @param {(groupId: string) => void} go */
export function joinGroup(family, go) {
  dialog('Join a group', (close) => [
    h('p', {}, 'Paste the link that you were sent. If you were told a code and a key instead, put them in the two fields.'),
    form(
      {
        label: 'Join',
        act: async ({ link = '', key = '' }) => {
          const invitation = readInvitation(link, key);
          if (!invitation) throw new Error('That is neither a whole link, nor a code of 8 letters with its key of 43.');
          go(await family.join(invitation.code, invitation.raw));
          close();
        },
      },
      field('link', 'Link, or code', { autofocus: true, spellcheck: 'false' }),
      field('key', 'Key, if it was told apart', { required: false, spellcheck: 'false' }),
    ),
  ]);
}

/** @param {string} text @param {string} label */
const copyButton = (text, label) => {
  const button = h(
    'button',
    {
      type: 'button',
      class: 'quiet',
      onclick: async () => {
        await navigator.clipboard.writeText(text);
        put(button, 'Copied');
      },
    },
    label,
  );
  return button;
};

/** @param {Family} family @param {Group} group */
export async function invite(family, group) {
  const key = await family.keyText(group);
  const creator = group.members[0]?.user_id === family.session.user_id;
  dialog(`Invite to ${group.name}`, (close) => {
    if (!key)
      return [
        h('p', {}, 'This device can read the group, but not hand its key on: its key was brought here, and cannot be read out again.'),
        h('p', {}, 'Invite from the device on which you joined, or ask another member to send the link.'),
      ];
    const link = invitationLink(group.code, key);
    const share = { title: 'Orbital', text: `Join ${group.name}`, url: link };
    return [
      h('p', {}, 'Whoever has this link can join and read everything, so send it as you would hand over a house key.'),
      h('div', { class: 'copy' }, h('input', { readonly: true, value: link, 'aria-label': 'Invite link', 'data-invite': '' }), copyButton(link, 'Copy')),
      navigator.share ? h('button', { type: 'button', class: 'quiet', onclick: () => navigator.share(share).catch(() => {}) }, 'Share…') : null,
      h('p', { class: 'hint' }, 'The part after # stays in the browser: the server never gets it.'),
      h(
        'details',
        {},
        h('summary', {}, 'Code and key apart'),
        h('p', { class: 'hint' }, 'Tell the code one way and the key another: neither opens anything alone.'),
        h('dl', { class: 'pair' }, h('dt', {}, 'Code'), h('dd', {}, h('code', {}, group.code)), h('dt', {}, 'Key'), h('dd', {}, h('code', {}, key))),
      ),
      creator &&
        h(
          'details',
          {},
          h('summary', {}, 'A new code'),
          form(
            {
              label: 'Replace the code',
              act: async () => {
                await family.newCode(group);
                close();
                await invite(family, group);
              },
            },
            h('p', { class: 'hint' }, 'Links with the old code open nothing any more. Who has joined stays.'),
          ),
        ),
    ];
  });
}

/** @param {Family} family @param {Group} group @param {(groupId: string) => void} left */
export function members(family, group, left) {
  const mine = family.session.user_id;
  const creator = group.members[0]?.user_id === mine;
  const box = dialog('Members', (close) => [
    group.key ? h('button', { type: 'button', class: 'quiet', onclick: () => (close(), invite(family, group)) }, icon('invite'), 'Invite somebody') : null,
    h(
      'ul',
      { class: 'people' },
      group.members.map(({ user_id, username, joined_at }) => {
        const here = group.online.has(user_id);
        return h(
          'li',
          {},
          avatar(username),
          h('span', { class: 'grow' }, h('strong', {}, username), user_id === mine ? ' (you)' : '', h('small', {}, `joined ${ago(Date.parse(joined_at))}`)),
          h('span', { class: here ? 'online' : 'offline' }, here ? 'online' : 'away'),
          creator && user_id !== mine
            ? h('button', { type: 'button', class: 'quiet', 'aria-label': `Remove ${username}`, onclick: () => (close(), removeMember(family, group, user_id, username)) }, 'Remove')
            : null,
        );
      }),
    ),
    h(
      'details',
      {},
      h('summary', {}, 'Leave this group'),
      form(
        {
          label: 'Leave',
          danger: true,
          act: async () => {
            await family.remove(group);
            close();
            left(group.id);
          },
        },
        h('p', { class: 'hint' }, 'You see nothing of it from then on. What you wrote stays with the others.'),
      ),
    ),
  ]);
  return box;
}

/** @param {Family} family @param {Group} group @param {string} userId @param {string} username */
function removeMember(family, group, userId, username) {
  dialog(`Remove ${username}?`, (close) => [
    h('p', {}, `${username} hears nothing of the group from then on. The group's key stays as it is: what ${username} has read is read.`),
    form(
      {
        label: `Remove ${username}`,
        danger: true,
        act: async () => {
          await family.remove(group, userId);
          close();
        },
      },
    ),
  ]);
}

/** @param {Family} family @param {(forget: boolean) => Promise<void>} leave */
export function account(family, leave) {
  dialog(family.session.username, () => {
    const asked = 'Notification' in globalThis ? Notification.permission : 'denied';
    const state = h('p', { class: 'hint', role: 'status' }, asked === 'granted' ? 'You are told when something is new.' : asked === 'denied' ? 'This browser shows none for this page.' : '');
    const ask = async () => {
      const answer = await Notification.requestPermission();
      put(state, answer === 'granted' ? 'You are told when something is new.' : 'The browser was told not to.');
    };
    return [
      h('h3', {}, 'Notifications'),
      asked === 'default' ? h('button', { type: 'button', class: 'quiet', onclick: ask }, 'Tell me when something is new') : null,
      state,
      h('h3', {}, 'Log out'),
      h('p', { class: 'hint' }, 'The keys of your groups stay in this browser, so that you can log in here again and read.'),
      h('div', { class: 'actions start' }, h('button', { type: 'button', class: 'primary', onclick: () => leave(false) }, 'Log out')),
      h(
        'details',
        {},
        h('summary', {}, 'This is not my device'),
        h('p', { class: 'hint' }, 'Log out, and remove the keys too. To read here again you need an invite link of each group.'),
        h('div', { class: 'actions start' }, h('button', { type: 'button', class: 'danger', onclick: () => leave(true) }, 'Log out and forget the keys')),
      ),
    ];
  });
}

/** @returns {HTMLElement | null} What to say when this page cannot encrypt. */
export const insecure = () =>
  canEncrypt()
    ? null
    : h('p', { class: 'problem', role: 'alert' }, 'This address is not encrypted (http), so the browser offers no keys. Open it by https, or as localhost on the machine itself.');
