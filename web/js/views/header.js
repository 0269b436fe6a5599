/** The header, and the title of the browser tab with the count of unread messages: connection state, the group's actions. */
import { describeConnection } from '../model/connection.js';
import { h, put } from './dom.js';
import { avatar, icon, sign } from './icons.js';
import { address } from './route.js';
import { loginButton } from './window.js';
import { counted, cut } from './words.js';

/** @import {ViewContext} from './home.js' */
/** @import {Own} from './dialogs/account.js' */

/**
 * @param {ViewContext} context
 * @param {{own: Own, toggleInspector: () => void}} how
 */
export function makeHeader(context, { own, toggleInspector }) {
  const { family } = context;
  const { username } = family.session;
  const pill = h('span', { class: 'pill', 'aria-hidden': 'true' });
  const said = h('span', { class: 'sr', role: 'status' });
  const banner = h('section', { class: 'banner', 'aria-label': 'Connection', hidden: true });
  const title = h('h1', {});
  const tools = h('div', { class: 'tools' });
  const back = h('a', { class: 'quiet round back', 'aria-label': 'Back', href: '#/' }, icon('back'));
  const seen = { type: 'button', class: 'quiet', 'aria-expanded': 'false', 'aria-label': 'What the server sees', onclick: toggleInspector };
  const eye = h('button', seen, icon('eye'), h('span', { class: 'wide' }, 'What the server sees'));
  const opened = () => context.later(import('./dialogs/account.js'), ({ account }) => account(family, own, context.push));
  const mine = { type: 'button', class: 'quiet me', 'aria-label': `Account of ${username}`, onclick: opened };
  const brand = h('a', { class: 'brand', href: '#/', 'aria-label': 'Orbital, all groups' }, sign(30));
  const bar = h('header', { class: 'bar' }, back, brand, title, pill, said, tools, eye, h('button', mine, avatar(username)));

  const retryButton = () => h('button', { type: 'button', class: 'quiet', onclick: () => family.wake() }, 'Retry now');
  const showConnection = () => {
    const { state, toSend, caughtUp, loginProxy, polled } = family;
    const offline = navigator.onLine === false;
    const { tone, text, plain, more } = describeConnection({ state, offline, caughtUp, loginProxy, polled, nowMs: Date.now() });
    pill.className = `pill ${tone}`;
    const sending = toSend ? h('span', {}, h('span', { class: 'line' }, '· '), `${toSend} to send`) : null;
    put(pill, h('i', {}), h('span', { class: 'line' }, text), sending);
    const words = toSend && tone !== 'good' ? `${plain} ${toSend} to send.` : plain;
    if (said.textContent !== words) said.textContent = words;
    banner.hidden = !more;
    if (more && banner.firstChild?.textContent !== more)
      put(banner, h('p', {}, more), loginProxy && !offline ? loginButton() : null, retryButton());
    const unread = [...family.groups.values()].reduce((sum, one) => sum + family.unreadIn(one), 0);
    document.title = `${unread ? `(${unread}) ` : ''}${context.group()?.name ?? 'Orbital'}`;
  };

  const showTools = () => {
    const group = context.group();
    const names = group?.members.map(({ username: name }) => name).join();
    const version = group ? `${group.id}:${Boolean(group.key)}:${group.memberCount}:${[...group.online].join()}:${names}` : '';
    if (tools.dataset.version === version) return;
    tools.dataset.version = version;
    if (!group) return void put(tools);
    const online = group.members.filter(({ user_id }) => group.online.has(user_id));
    const opened = () => context.later(import('./dialogs/members.js'), ({ members }) => members(family, group, () => context.leaveGroup()));
    const faces = online.slice(0, 4).map(({ username: name }) => avatar(name));
    const people = h(
      'button',
      { type: 'button', class: 'quiet', onclick: opened },
      h('span', { class: 'faces wide', 'aria-hidden': 'true' }, faces),
      h('span', { class: 'sr' }, `Members: ${counted(group.memberCount, 'member')}, `),
      icon('people'),
      h(
        'span',
        { class: 'online' },
        `${online.length}`,
        h('span', { class: 'wide' }, ' online'),
        h('span', { class: 'sr narrow' }, ' online'),
      ),
    );
    const inviting = {
      type: 'button',
      class: 'quiet invite',
      'aria-label': 'Invite',
      onclick: () => context.later(import('./dialogs/invite.js'), ({ invite }) => invite(family, group)),
    };
    put(tools, people, group.key ? h('button', inviting, icon('invite'), h('span', { class: 'wide' }, 'Invite')) : null);
  };

  return {
    bar,
    banner,
    eye,
    showConnection,
    show() {
      const { groupId = '', threadId, writing } = context.route();
      const group = context.group();
      back.href = threadId || writing ? address(groupId) : '#/';
      const name = group ? (group.name ?? 'Locked group') : 'Orbital';
      const thread = threadId ? group?.threads.get(threadId) : undefined;
      // A phone shows one thing at a time, so its bar names the thread.
      const titles = thread?.title
        ? [h('span', { class: 'group-title' }, name), h('span', { class: 'thread-title', dir: 'auto' }, cut(thread.title))]
        : [name];
      if (title.dataset.version !== `${name}:${thread?.title}`) put(title, titles);
      title.dataset.version = `${name}:${thread?.title}`;
      showConnection();
      showTools();
    },
  };
}
