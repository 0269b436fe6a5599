/** The home: groups, threads, one thread, and the state of the line. It shows what the family model knows, and changes only what changed. */
import * as dialogs from './dialogs.js';
import { avatar, counted, h, icon, keyed, put, refreshTimes, size, time } from './dom.js';
import { excerpt, markdown } from './markdown.js';
import { makeDrawer } from './traffic-inspector.js';
import { sign } from './welcome.js';

/** @typedef {import('./family.js').Family} Family */
/** @typedef {import('./family.js').Group} Group */
/** @typedef {import('./family.js').Item} Item */
/** @typedef {import('./family.js').Thread} Thread */
/** @typedef {import('./family.js').Waiting} Waiting */
/** @typedef {import('./transfers.js').Upload} Upload */

const LOCKED = 'This cannot be opened with the key on this device.';
/** Who is there is looked up so often while the page is shown. */
const PRESENCE_MS = 15_000;
/** A picture up to this size comes by itself; anything larger, and every video, when it is asked for. */
const BY_ITSELF_BYTES = 12e6;
/** So close to its end a thread stays at its end. */
const NEAR_END_PX = 120;

/** @typedef {{groupId?: string | undefined, threadId?: string | undefined, writing?: boolean}} Route */

/** @returns {Route} */
function route() {
  const [, groupId, place, threadId] = /^#\/g\/([\w-]+)(?:\/(t|new)(?:\/([\w-]+))?)?$/.exec(location.hash) ?? [];
  return { groupId, threadId, writing: place === 'new' };
}

/** @param {string} groupId @param {string} [threadId] */
const address = (groupId, threadId) => `#/g/${groupId}${threadId ? `/t/${threadId}` : ''}`;

/**
 * Show the home of a member.
 *
 * @param {HTMLElement} root
 * @param {Family} family
 * @param {{leave: (forget: boolean) => Promise<void>}} how
 * @returns {() => void} Takes it down.
 */
export function home(root, family, { leave }) {
  const { session, transfers } = family;
  /** @type {Map<string, string>} What is being written, by thread; it lives as long as the page. */
  const drafts = new Map();
  /** @type {Route} */
  let here = {};
  let seesOpen = false;

  // The parts that stay

  const pill = h('span', { class: 'pill', 'aria-hidden': 'true' });
  const said = h('span', { class: 'sr', role: 'status' });
  const banner = h('section', { class: 'banner', 'aria-label': 'The line', hidden: true });
  const title = h('h1', {});
  const tools = h('div', { class: 'tools' });
  const back = h('a', { class: 'quiet round back', 'aria-label': 'Back', href: '#/' }, icon('back'));
  const eye = h('button', { type: 'button', class: 'quiet', 'aria-expanded': 'false', onclick: () => see(!seesOpen) }, icon('eye'), h('span', { class: 'wide' }, 'What the server sees'));
  eye.setAttribute('aria-label', 'What the server sees');
  const me = h('button', { type: 'button', class: 'quiet me', 'aria-label': `Account of ${session.username}`, onclick: () => dialogs.account(family, leave) }, avatar(session.username));
  const groupList = h('ul', { class: 'group-list' });
  const threadsPane = h('section', { class: 'threads', 'aria-label': 'Threads' });
  const threadPane = h('section', { class: 'thread', 'aria-label': 'Thread' });
  const toasts = h('div', { class: 'toasts', role: 'status' });
  const log = h('div', { class: 'sr', role: 'log', 'aria-label': 'News' });
  const drawer = makeDrawer(family, () => see(false));
  const home = h(
    'div',
    { class: 'home' },
    h('header', { class: 'bar' }, back, h('a', { class: 'brand', href: '#/', 'aria-label': 'Orbital, all groups' }, sign(30)), title, pill, said, tools, eye, me),
    banner,
    h(
      'div',
      { class: 'columns' },
      h(
        'main',
        { id: 'main' },
        h(
          'nav',
          { class: 'groups', 'aria-label': 'Groups' },
          h('h2', {}, 'Groups'),
          groupList,
          h('div', { class: 'actions start column' },
            h('button', { type: 'button', class: 'quiet', onclick: () => dialogs.newGroup(family, go) }, icon('plus'), 'New group'),
            h('button', { type: 'button', class: 'quiet', onclick: () => dialogs.joinGroup(family, go) }, icon('invite'), 'Join a group')),
        ),
        threadsPane,
        threadPane,
      ),
      drawer.element,
    ),
    toasts,
    log,
  );
  put(root, home);
  drawer.element.addEventListener('keydown', ({ key }) => key === 'Escape' && see(false));

  /** @param {string} groupId @param {string} [threadId] */
  function go(groupId, threadId) {
    location.hash = address(groupId, threadId);
  }

  /** @param {boolean} opened */
  function see(opened) {
    seesOpen = opened;
    home.classList.toggle('seeing', opened);
    drawer.toggle(opened);
    eye.setAttribute('aria-expanded', String(opened));
    if (!opened) eye.focus();
  }

  /** @param {string} text */
  function toast(text) {
    const node = h('p', {}, text);
    toasts.append(node);
    setTimeout(() => node.remove(), 6000);
  }

  const group = () => family.groups.get(here.groupId ?? '');
  const thread = () => group()?.threads.get(here.threadId ?? '');

  // The state of the line

  function showLine() {
    const { state, waiting } = family;
    const offline = navigator.onLine === false;
    const toSend = waiting.filter(({ error }) => !error).length;
    const seconds = state.retry_at ? Math.max(1, Math.ceil((state.retry_at - Date.now()) / 1000)) : 0;
    let tone = 'wait';
    let text = 'Connecting…';
    let plain = text;
    let more = '';
    if (state.status === 'open' && family.caughtUp) [tone, text, plain] = ['good', 'Connected', 'Connected. Everything is here.'];
    else if (state.status === 'open') [text, plain] = ['Catching up…', 'Catching up.'];
    else if (offline) {
      [tone, text, plain] = ['off', 'Offline', 'Offline.'];
      more = 'You are offline. What you write is kept here, and sent when you are back.';
    } else if (state.retry_at) {
      [tone, text, plain] = ['off', `Reconnecting in ${seconds} s`, 'The line is lost. It is tried again by itself.'];
      more = `The line is lost; it is tried again in ${seconds} s. What you write is kept here, and sent then.`;
    }
    pill.className = `pill ${tone}`;
    put(pill, h('i', {}), h('span', { class: 'line' }, text), toSend ? h('span', {}, h('span', { class: 'line' }, '· '), `${toSend} to send`) : null);
    if (toSend && state.status !== 'open') plain += ` ${toSend} to send.`;
    if (said.textContent !== plain) said.textContent = plain;
    banner.hidden = !more;
    if (more && banner.firstChild?.textContent !== more)
      put(banner, h('p', {}, more), h('button', { type: 'button', class: 'quiet', onclick: () => family.wake() }, 'Try now'));
    const unread = [...family.groups.values()].reduce((sum, one) => sum + family.unreadIn(one), 0);
    document.title = `${unread ? `(${unread}) ` : ''}${group()?.name ?? 'Orbital'}`;
  }

  // Groups

  function showGroups() {
    keyed(
      groupList,
      [...family.groups.values()],
      ({ id }) => id,
      (one) => JSON.stringify([one.name, family.unreadIn(one), one.memberCount, one.id === here.groupId]),
      (one) => {
        const unread = family.unreadIn(one);
        return h(
          'li',
          {},
          h(
            'a',
            { href: address(one.id), 'aria-current': one.id === here.groupId ? 'page' : null },
            avatar(one.name ?? '?'),
            h('span', { class: 'grow' }, one.name ?? 'A locked group', h('small', {}, counted(one.memberCount, 'member'))),
            unread ? h('span', { class: 'badge' }, String(unread), h('span', { class: 'sr' }, ' unread')) : null,
          ),
        );
      },
    );
  }

  // Threads

  /** @type {HTMLOListElement | undefined} */
  let threadList;
  let threadsOf = '';

  function showThreads() {
    const one = group();
    const what = one ? `${one.id}:${Boolean(one.key)}` : family.groups.size ? 'unchosen' : family.loaded ? 'none' : family.loadFailed ? 'failed' : 'loading';
    if (what !== threadsOf) {
      threadsOf = what;
      put(threadsPane, ...(one?.key ? openGroup(one) : one ? lockedGroup(one) : noGroup(what)));
    }
    if (!one?.key || !threadList) return;
    const waiting = family.waiting.filter(({ groupId, threadId }) => groupId === one.id && !threadId);
    const threads = [...one.threads.values()].sort((a, b) => b.atMs - a.atMs || (a.id < b.id ? 1 : -1));
    keyed(
      threadList,
      [...waiting.reverse(), ...threads],
      (item) => ('key' in item ? item.key : item.id),
      (item) => ('key' in item ? `waiting${item.error}` : JSON.stringify([item.title, item.body, item.replies, item.photos, family.unread(item), item.id === here.threadId, writing(item.id)])),
      (item) => ('key' in item ? waitingThread(item) : threadCard(one, item)),
    );
    const foot = /** @type {HTMLElement} */ (threadsPane.querySelector('.foot'));
    const say = one.loaded === 'failed' ? 'The threads could not be loaded. They are asked for again as soon as the line is back.'
      : one.loaded === 'loading' && !threads.length ? 'Looking…'
      : threads.length + waiting.length === 0 && one.loaded === 'yes' ? 'Nothing yet. Begin with a thread: a trip, a recipe, a question.' : '';
    const wanted = `${say}${one.more}`;
    if (foot.dataset['state'] !== wanted) {
      foot.dataset['state'] = wanted;
      put(foot, say ? h('p', { class: 'hint' }, say) : null, one.more ? h('button', { type: 'button', class: 'quiet', onclick: () => family.loadThreads(one, one.threads.size) }, 'Older threads') : null);
    }
  }

  /** @param {Group} one */
  function openGroup(one) {
    threadList = h('ol', { class: 'thread-list' });
    return [
      h('header', {}, h('h2', {}, 'Threads'), h('a', { class: 'primary', href: `#/g/${one.id}/new` }, icon('plus'), 'New thread')),
      threadList,
      h('div', { class: 'foot' }),
    ];
  }

  /** @param {Group} one */
  function lockedGroup(one) {
    return [
      h('header', {}, h('h2', {}, 'Locked')),
      h(
        'div',
        { class: 'empty' },
        icon('lock'),
        h('p', {}, 'This device does not have the key of this group, so nothing of it can be read here.'),
        h('p', {}, 'Open an invite link of the group here, or paste it. Any member can give you one.'),
        dialogs.form(
          {
            label: 'Unlock',
            act: async ({ link = '' }) => {
              const invitation = dialogs.readInvitation(link) ?? dialogs.readInvitation('AAAAAAAA', link);
              if (!invitation) throw new Error('That is neither a whole link nor a key.');
              await family.bringKey(one, invitation.raw);
            },
          },
          dialogs.field('link', 'Link or key', { spellcheck: 'false' }),
        ),
        h('button', { type: 'button', class: 'quiet', onclick: () => dialogs.members(family, one, () => (location.hash = '#/')) }, 'Members'),
      ),
    ];
  }

  /** @param {string} what */
  function noGroup(what) {
    if (what === 'loading') return [h('p', { class: 'hint pad' }, 'Looking for your groups…')];
    if (what === 'unchosen') return [h('p', { class: 'hint pad' }, 'Choose a group.')];
    if (what === 'failed')
      return [h('div', { class: 'empty' }, icon('clock'), h('p', {}, 'The server cannot be reached. Your groups appear here as soon as it can.'))];
    return [
      h(
        'div',
        { class: 'empty' },
        sign(96),
        h('h2', {}, `Hello, ${session.username}`),
        h('p', {}, 'You are in no group yet. Make one for your family and invite them, or open the link that somebody sent you.'),
        h(
          'div',
          { class: 'actions center' },
          h('button', { type: 'button', class: 'primary', onclick: () => dialogs.newGroup(family, go) }, 'Make a group'),
          h('button', { type: 'button', class: 'quiet', onclick: () => dialogs.joinGroup(family, go) }, 'Join with a link'),
        ),
      ),
    ];
  }

  /** @param {string} threadId @returns {string} Who writes there. */
  function writing(threadId) {
    const names = [...(family.typists.get(threadId)?.values() ?? [])].map(({ username }) => username);
    if (!names.length) return '';
    return names.length === 1 ? `${names[0]} is writing…` : names.length === 2 ? `${names[0]} and ${names[1]} are writing…` : 'Several are writing…';
  }

  /** @param {Group} one @param {Thread} item */
  function threadCard(one, item) {
    const unread = family.unread(item);
    const typing = writing(item.id);
    return h(
      'li',
      {},
      h(
        'a',
        { href: address(one.id, item.id), class: unread ? 'card unread' : 'card', 'aria-current': item.id === here.threadId ? 'true' : null },
        h('span', { class: 'card-title' }, item.title ?? h('em', {}, icon('lock'), 'Cannot be opened'), unread ? h('span', { class: 'dot' }, h('span', { class: 'sr' }, ', new')) : null),
        h('span', { class: 'card-text' }, typing ? h('em', { class: 'typing' }, typing) : item.body === null ? LOCKED : excerpt(item.body)),
        h(
          'span',
          { class: 'card-foot' },
          h('span', {}, `${item.author} · `, time(item.atMs)),
          h('span', { class: 'counts' },
            h('span', { title: counted(item.replies, 'reply', 'replies') }, icon('reply'), item.replies, h('span', { class: 'sr' }, item.replies === 1 ? ' reply' : ' replies')),
            item.photos ? h('span', { title: counted(item.photos, 'photo') }, icon('photo'), item.photos, h('span', { class: 'sr' }, item.photos === 1 ? ' photo' : ' photos')) : null),
        ),
      ),
    );
  }

  /** @param {Waiting} draft */
  const waitingThread = (draft) =>
    h('li', {}, h('div', { class: 'card waiting' }, h('span', { class: 'card-title' }, draft.title ?? 'A thread'), h('span', { class: 'card-text' }, excerpt(draft.body ?? '')), ...fate(draft)));

  /** @param {Waiting} draft */
  const fate = (draft) =>
    draft.error
      ? [
          h('p', { class: 'problem' }, `Not sent: ${draft.error}`),
          h('span', { class: 'actions start' },
            h('button', { type: 'button', class: 'quiet', onclick: () => family.resend(draft) }, 'Send again'),
            h('button', { type: 'button', class: 'quiet', onclick: () => family.discard(draft.key) }, 'Discard')),
        ]
      : [h('span', { class: 'fate' }, icon('clock'), 'kept here, on its way')];

  // One thread

  /** @type {{list: HTMLOListElement, typing: HTMLElement, scroll: HTMLElement, state: HTMLElement, heading: HTMLElement, stop: () => void} | undefined} */
  let reader;
  let threadOf = '';

  function showThread() {
    const one = group();
    const item = thread();
    const what = here.writing && one?.key ? `new:${one.id}` : one && item ? item.id : here.threadId ? `missing:${one?.loaded}` : `none:${one?.id}`;
    if (what !== threadOf) {
      threadOf = what;
      reader?.stop();
      reader = undefined;
      if (one && here.writing && one.key) put(threadPane, ...newThread(one));
      else if (one && item) openThread(one, item);
      else put(threadPane, h('div', { class: 'empty' }, sign(72), h('p', {}, !one || (here.threadId && one.loaded !== 'yes') ? '' : here.threadId ? 'This thread is not here.' : 'Choose a thread, or begin one.')));
    }
    family.reading = item?.id;
    if (!one || !item || !reader) return;
    if (document.visibilityState === 'visible' && item.loaded === 'yes') family.markRead(item);
    const { list, typing, scroll, state } = reader;
    const near = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < NEAR_END_PX;
    const items = [...item.items.values()].sort((a, b) => a.atMs - b.atMs || (a.id < b.id ? -1 : 1));
    const waiting = family.waiting.filter(({ threadId }) => threadId === item.id);
    const sending = [...transfers.uploads.values()].filter(({ id, threadId }) => threadId === item.id && !item.items.has(id));
    const before = list.childElementCount;
    keyed(
      list,
      /** @type {(Item | Waiting | Upload)[]} */ ([...items, ...waiting, ...sending]),
      (each) => ('key' in each ? each.key : 'iv' in each ? `upload:${each.id}` : each.id),
      (each) => versionOf(each),
      (each) => ('key' in each ? waitingReply(each) : 'iv' in each ? uploadNode(one, each) : 'kind' in each && each.kind === 'media' ? mediaNode(one, each) : replyNode(/** @type {Item} */ (each))),
    );
    const text = writing(item.id);
    if (typing.textContent !== text) typing.textContent = text;
    const say = item.loaded === 'loading' ? 'Looking…' : item.loaded === 'failed' ? 'The replies could not be loaded. They are asked for again as soon as the line is back.' : '';
    if (state.textContent !== say) state.textContent = say;
    if (list.childElementCount !== before && (near || before === 0)) scroll.scrollTop = scroll.scrollHeight;
  }

  /** @param {Item | Waiting | Upload} each */
  function versionOf(each) {
    if ('key' in each) return `waiting:${each.error}`;
    if ('iv' in each) return `upload:${each.state}:${Math.round(each.done * 50)}`;
    const view = transfers.views.get(each.id);
    return `${each.kind}:${each.gone}:${view?.state}:${view?.state === 'loading' ? Math.round(view.done * 20) : ''}`;
  }

  /** @param {Group} one @param {Thread} item */
  function openThread(one, item) {
    const list = h('ol', { class: 'items' });
    const typing = h('p', { class: 'typing', role: 'status' });
    const state = h('p', { class: 'hint' });
    const heading = h('h2', { tabindex: '-1' }, item.title ?? 'Cannot be opened');
    const scroll = h(
      'div',
      { class: 'scroll' },
      h(
        'article',
        { class: 'opening' },
        heading,
        h('p', { class: 'by' }, avatar(item.author), h('span', {}, h('strong', {}, item.author), ' · ', time(item.atMs))),
        h('div', { class: 'words' }, item.body === null ? h('p', { class: 'locked' }, icon('lock'), LOCKED) : markdown(item.body)),
      ),
      list,
      state,
    );
    let atEnd = true;
    let was = '';
    const sizes = () => `${scroll.clientHeight} ${list.clientHeight}`;
    const observer = new ResizeObserver(() => {
      was = sizes();
      // A picture that arrives must not push what was just read out of sight.
      if (reader?.scroll === scroll && atEnd) scroll.scrollTop = scroll.scrollHeight;
    });
    const scrolled = () => {
      // After a change of size it is the observer's turn first: nobody has scrolled away.
      if (was === sizes()) atEnd = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < NEAR_END_PX;
    };
    scroll.addEventListener('scroll', scrolled, { passive: true });
    observer.observe(list);
    // Nor a keyboard that opens, nor the drawer.
    observer.observe(scroll);
    put(threadPane, scroll, typing, composer(one, item));
    reader = { list, typing, scroll, state, heading, stop: () => observer.disconnect() };
    if (item.loaded !== 'yes') void family.loadThread(one, item);
  }

  /** @param {Group} one @param {Thread} item */
  function composer(one, item) {
    const grow = () => {
      area.style.height = 'auto';
      area.style.height = `${Math.min(area.scrollHeight + 2, 220)}px`;
    };
    const send = () => {
      const text = area.value.trim();
      if (!text) return;
      area.value = '';
      drafts.delete(item.id);
      grow();
      if (reader) reader.scroll.scrollTop = reader.scroll.scrollHeight;
      void family.writeReply(one, item.id, text);
    };
    const area = h('textarea', {
      rows: 1,
      maxlength: 20_000,
      'aria-label': 'Your reply',
      placeholder: 'Write a reply…',
      value: drafts.get(item.id) ?? '',
      oninput: () => {
        drafts.set(item.id, area.value);
        if (area.value) family.typing(item.id);
        grow();
      },
      onkeydown: (/** @type {KeyboardEvent} */ event) => {
        // On a phone's keyboard Enter makes a new line; there is a button.
        if (event.key !== 'Enter' || event.shiftKey || event.isComposing || matchMedia('(pointer: coarse)').matches) return;
        event.preventDefault();
        send();
      },
      onpaste: (/** @type {ClipboardEvent} */ event) => attach(event.clipboardData?.files),
    });
    /** @param {FileList | null | undefined} files */
    const attach = (files) => {
      for (const file of files ?? []) void transfers.add(one, item.id, file);
    };
    const file = h('input', {
      type: 'file',
      accept: 'image/*,video/*',
      multiple: true,
      class: 'sr',
      tabindex: '-1',
      'aria-hidden': 'true',
      onchange: () => {
        attach(file.files);
        file.value = '';
      },
    });
    return h(
      'form',
      {
        class: 'composer',
        'aria-label': 'Reply',
        onsubmit: (/** @type {Event} */ event) => {
          event.preventDefault();
          send();
          area.focus();
        },
        ondragover: (/** @type {Event} */ event) => event.preventDefault(),
        ondrop: (/** @type {DragEvent} */ event) => {
          event.preventDefault();
          attach(event.dataTransfer?.files);
        },
      },
      file,
      h('button', { type: 'button', class: 'quiet round', 'aria-label': 'Add photos or videos', onclick: () => file.click() }, icon('clip')),
      area,
      h('button', { class: 'primary round', 'aria-label': 'Send the reply' }, icon('send')),
    );
  }

  /** @param {string} author @param {boolean} mine @param {number | null} atMs @param {...(Node | Node[] | string | null)} inside */
  const bubble = (author, mine, atMs, ...inside) =>
    h(
      'li',
      { class: mine ? 'item mine' : 'item' },
      avatar(author),
      h('div', { class: 'bubble' }, h('p', { class: 'by' }, h('strong', {}, mine ? 'You' : author), atMs ? [' · ', time(atMs)] : null), ...inside),
    );

  /** @param {Item} item */
  const replyNode = (item) =>
    bubble(item.author, item.mine, item.atMs, h('div', { class: 'words' }, item.text === null ? h('p', { class: 'locked' }, icon('lock'), LOCKED) : markdown(item.text)));

  /** @param {Waiting} draft */
  function waitingReply(draft) {
    const node = bubble(session.username, true, null, h('div', { class: 'words' }, markdown(draft.body ?? '')), ...fate(draft));
    node.classList.add('waiting');
    return node;
  }

  /** @param {Group} one @param {Upload} upload */
  function uploadNode(one, upload) {
    const percent = Math.round(upload.done * 100);
    const again = upload.state === 'paused' || upload.state === 'failed';
    const states = { sealing: 'encrypting…', sending: `${percent} %`, paused: 'stopped', failed: upload.error ?? 'failed' };
    return bubble(
      session.username,
      true,
      null,
      h('p', { class: 'file' }, icon('photo'), upload.name),
      h('progress', { max: 1, value: upload.done, 'aria-label': `Sending ${upload.name}` }),
      h(
        'p',
        { class: 'fate' },
        `${states[upload.state]} `,
        again
          ? [
              h('button', { type: 'button', class: 'link', onclick: () => transfers.send(upload) }, 'Go on'),
              h('button', { type: 'button', class: 'link', onclick: () => transfers.discard(upload.id) }, 'Discard'),
            ]
          : h('button', { type: 'button', class: 'link', onclick: () => transfers.pause(upload.id) }, 'Stop'),
      ),
    );
  }

  /** @param {Group} one @param {Item} item */
  function mediaNode(one, item) {
    const { info, bytes = 0 } = item;
    const view = transfers.views.get(item.id);
    if (!info) return bubble(item.author, item.mine, item.atMs, h('p', { class: 'locked' }, icon('lock'), LOCKED));
    const { name, type = '', width, height } = info;
    const picture = type.startsWith('image/');
    const frame = h('div', { class: picture ? 'frame' : 'frame video' });
    if (width && height) frame.style.aspectRatio = `${width} / ${height}`;
    if (item.gone || view?.state === 'gone') put(frame, h('p', { class: 'hint' }, 'Photos are relayed for 7 days; this one is gone from the server. Who has it can send it again.'));
    else if (view?.state === 'ready') put(frame, shown(view, name));
    else if (view?.state === 'loading') put(frame, h('progress', { max: 1, value: view.done, 'aria-label': `Opening ${name}` }));
    else if (view?.state === 'failed') put(frame, h('p', { class: 'locked' }, 'It could not be opened.'), h('button', { type: 'button', class: 'quiet', onclick: () => transfers.fetch(one, item) }, 'Try again'));
    else if (picture && bytes <= BY_ITSELF_BYTES) queueMicrotask(() => transfers.fetch(one, item));
    else put(frame, h('button', { type: 'button', class: 'quiet', onclick: () => transfers.fetch(one, item) }, icon('play'), `${picture ? 'Show' : 'Play'} (${size(bytes)})`));
    return bubble(item.author, item.mine, item.atMs, h('figure', {}, frame, h('figcaption', {}, name, ' · ', size(bytes), view?.url ? [' · ', h('a', { href: view.url, download: name }, 'Save')] : null)));
  }

  /** @param {import('./transfers.js').View} view @param {string} name */
  function shown({ url = '', type = '' }, name) {
    if (type.startsWith('image/')) return h('img', { src: url, alt: name });
    if (type.startsWith('video/')) return h('video', { src: url, controls: true, playsinline: true, 'aria-label': name });
    if (type.startsWith('audio/')) return h('audio', { src: url, controls: true, 'aria-label': name });
    return h('a', { href: url, download: name, class: 'quiet' }, `Save ${name}`);
  }

  /** @param {Group} one */
  function newThread(one) {
    const preview = h('div', { class: 'words preview', hidden: true });
    const body = h('textarea', {
      id: 'new-body',
      name: 'body',
      rows: 8,
      maxlength: 20_000,
      value: drafts.get(`new:${one.id}`) ?? '',
      oninput: () => {
        drafts.set(`new:${one.id}`, body.value);
        preview.hidden = !/[*_`#>[\]~-]|\d\./.test(body.value);
        if (!preview.hidden) put(preview, h('p', { class: 'hint' }, 'This is how it looks:'), ...markdown(body.value));
      },
    });
    /** @param {Record<string, string>} values */
    const act = async ({ title: text = '' }) => {
      if (!text.trim()) throw new Error('The thread needs a title.');
      const key = await family.writeThread(one, text.trim(), body.value.trim() || text.trim());
      drafts.delete(`new:${one.id}`);
      sentKey = key;
      location.hash = address(one.id);
      if (family.state.status !== 'open') toast('Kept here. It is sent when the line is back.');
    };
    return [
      h(
        'div',
        { class: 'scroll' },
        h(
          'div',
          { class: 'opening' },
          h('h2', { tabindex: '-1' }, 'A new thread'),
          dialogs.form(
            { label: 'Send', act },
            dialogs.field('title', 'Title', { maxlength: 200 }),
            h('div', { class: 'field' }, h('label', { for: 'new-body' }, 'What is it about?'), body, h('p', { class: 'hint' }, '**bold**, *slanted*, lists with - and links become what they look like.')),
            preview,
          ),
        ),
      ),
    ];
  }

  /** @type {string | undefined} A thread that was just written is opened when the server has it. */
  let sentKey;

  // All of it

  function show() {
    if (stopped) return;
    const one = group();
    // Without any group, what there is to say about it stands where threads would.
    home.dataset['pane'] = !family.groups.size ? 'threads' : !one ? 'groups' : here.threadId || here.writing ? 'thread' : 'threads';
    back.href = here.threadId || here.writing ? address(here.groupId ?? '') : '#/';
    title.textContent = one ? (one.name ?? 'A locked group') : 'Orbital';
    showLine();
    showGroups();
    showTools(one);
    showThreads();
    showThread();
  }

  function showTools(/** @type {Group | undefined} */ one) {
    const version = one ? `${one.id}:${Boolean(one.key)}:${one.memberCount}:${[...one.online].join()}:${one.members.map(({ username }) => username).join()}` : '';
    if (tools.dataset['version'] === version) return;
    tools.dataset['version'] = version;
    if (!one) return void put(tools);
    const others = one.members.filter(({ user_id }) => one.online.has(user_id));
    put(
      tools,
      h(
        'button',
        { type: 'button', class: 'quiet', onclick: () => dialogs.members(family, one, () => (location.hash = '#/')) },
        h('span', { class: 'faces wide', 'aria-hidden': 'true' }, others.slice(0, 4).map(({ username }) => avatar(username))),
        h('span', { class: 'sr' }, `Members: ${counted(one.memberCount, 'member')}, `),
        icon('people'),
        h('span', { class: 'online' }, `${others.length}`, h('span', { class: 'wide' }, ' online'), h('span', { class: 'sr narrow' }, ' online')),
      ),
      one.key ? h('button', { type: 'button', class: 'quiet invite', 'aria-label': 'Invite', onclick: () => dialogs.invite(family, one) }, icon('invite'), h('span', { class: 'wide' }, 'Invite')) : null,
    );
  }

  let queued = false;
  let stopped = false;
  const changed = () => {
    if (queued) return;
    queued = true;
    queueMicrotask(() => {
      queued = false;
      show();
    });
  };

  const routed = () => {
    const was = here;
    here = route();
    // A wide screen has room for a group beside the list of them.
    const [first] = family.groups.values();
    if (!here.groupId && first && matchMedia('(min-width: 56.25em)').matches) return location.replace(address(first.id));
    if (was.groupId !== here.groupId && group()) void family.loadMembers(/** @type {Group} */ (group()));
    show();
    if (here.writing && !was.writing) threadPane.querySelector('input')?.focus();
    else if (here.threadId && here.threadId !== was.threadId) reader?.heading.focus({ preventScroll: true });
    else if (!here.threadId && (was.threadId || was.writing)) /** @type {HTMLElement | null} */ (threadsPane.querySelector('[href]'))?.focus();
  };

  /** @param {any} event */
  const news = ({ detail: { kind, group: where, thread: item, author, text } }) => {
    const seen = document.visibilityState === 'visible' && here.threadId === item.id;
    const what = kind === 'thread' ? `${author} began “${item.title ?? '…'}”` : `${author} in “${item.title ?? '…'}”`;
    put(log, h('p', {}, kind === 'thread' ? what : `${what}: ${excerpt(text)}`));
    if (!seen) void notify(what, kind === 'thread' ? (where.name ?? '') : excerpt(text), address(where.id, item.id), item.id);
  };

  const listeners = new AbortController();
  const { signal } = listeners;
  family.addEventListener('change', changed, { signal });
  family.addEventListener('news', news, { signal });
  family.addEventListener(
    'removed',
    (/** @type {any} */ { detail }) => {
      toast(`You are no longer in ${detail.name ?? 'a group'}.`);
      // What was open of it is shut.
      if (here.groupId === detail.id) location.replace('#/');
    },
    { signal },
  );
  family.addEventListener(
    'sent',
    (/** @type {any} */ { detail }) => {
      if (detail.key !== sentKey) return;
      sentKey = undefined;
      if (!here.threadId && here.groupId) go(here.groupId, detail.threadId);
    },
    { signal },
  );
  family.addEventListener('trouble', (/** @type {any} */ { detail }) => toast(detail), { signal });
  addEventListener('hashchange', routed, { signal });
  addEventListener('online', changed, { signal });
  addEventListener('offline', changed, { signal });
  document.addEventListener(
    'visibilitychange',
    () => {
      if (document.visibilityState !== 'visible') return;
      changed();
      for (const one of family.groups.values()) void family.loadMembers(one);
    },
    { signal },
  );
  const second = setInterval(() => family.state.status !== 'open' && showLine(), 1000);
  const presence = setInterval(() => {
    const one = group();
    refreshTimes();
    if (one && document.visibilityState === 'visible' && family.state.status === 'open') void family.loadMembers(one);
  }, PRESENCE_MS);

  routed();
  // The first group is chosen when it is known which there are.
  const chosen = () => {
    if (!family.loaded) return;
    family.removeEventListener('change', chosen);
    const [only, ...others] = family.groups.keys();
    if (!here.groupId && only && !others.length) location.replace(address(only));
    else routed();
  };
  family.addEventListener('change', chosen, { signal });

  return () => {
    stopped = true;
    listeners.abort();
    clearInterval(second);
    clearInterval(presence);
    reader?.stop();
    drawer.stop();
  };
}

/**
 * Tell what is new, if it is allowed. Android has notifications only through the service worker.
 *
 * @param {string} title
 * @param {string} body
 * @param {string} where
 * @param {string} tag
 */
async function notify(title, body, where, tag) {
  if (!('Notification' in globalThis) || Notification.permission !== 'granted') return;
  const options = { body, tag, icon: '/icon-192.png', data: where };
  const worker = await navigator.serviceWorker?.getRegistration();
  if (worker) return worker.showNotification(title, options);
  const shown = new Notification(title, options);
  shown.onclick = () => {
    window.focus();
    location.hash = where;
  };
}
