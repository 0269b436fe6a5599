/** A logged-in member's page: header, groups, threads, one thread, and the inspector. It renders the model. */
import { makeInspector } from '../debug/traffic-inspector.js';
import { poll } from '../model/poll.js';
import { h, put } from './dom.js';
import { makeGroupList } from './group-list.js';
import { makeOffer } from './dialogs/notifications.js';
import { makeHeader } from './header.js';
import { icon } from './icons.js';
import { excerpt } from './markdown/parse.js';
import { notify } from './notify.js';
import { address, readRoute } from './route.js';
import { makeThread } from './thread.js';
import { makeThreadList } from './thread-list.js';
import { cut, refreshTimes } from './words.js';

/** @import {Recorder} from '../debug/traffic-recorder.js' */
/** @import {Family} from '../model/family.js' */
/** @import {Push} from '../model/push.js' */
/** @import {Group} from '../model/types.js' */
/** @import {Own} from './dialogs/account.js' */
/** @import {Route} from './route.js' */

/** Interval between reloads of groups and presence while the page is visible. */
const REFRESH_MS = 15_000;
/** Interval between probes; a dead connection is detected within this plus the probe's 3 s. */
const PROBE_MS = 10_000;
/** Interval between polls while there is no connection. */
const POLL_MS = 5000;
const TOAST_MS = 6000;
/** Delay before notifications of what was read are closed; many changes share it. */
const CLEAR_MS = 500;
/** Texts of which it is known that they were sent, should a thread be among them that is opened then. */
const SENT_KEPT = 16;
/** Interval between checks for another version of the page; showing the page checks too. */
const NEWER_MS = 3_600_000;

/**
 * What the views share.
 *
 * @typedef {object} ViewContext
 * @property {Family} family
 * @property {Push} push
 * @property {() => Route} route
 * @property {() => Group | undefined} group The group that is open.
 * @property {(groupId: string, threadId?: string) => void} go
 * @property {() => void} leaveGroup
 * @property {(text: string) => void} toast
 * @property {<M>(loading: Promise<M>, act: (module: M) => unknown) => void} later Use a part of the page when it is loaded, or say that it could not be.
 * @property {(key: string) => void} openWhenSent A thread that was just written is opened when the server has it.
 */

/** A bar that offers to reload once the server has another version of the page; the service worker reports it. */
function newerVersion() {
  const reload = () => location.reload();
  const button = h('button', { type: 'button', class: 'quiet', onclick: reload }, 'Reload');
  const bar = h(
    'section',
    { class: 'newer', 'aria-label': 'New version', hidden: true },
    h('p', {}, 'A new version of this page is ready.'),
    button,
  );
  return bar;
}

/** Show the violations that were found in the server's log. @param {Family} family */
function makeAlarm(family) {
  const element = h('section', { class: 'alarm', role: 'alert', hidden: true });
  const names = {
    changed: 'was changed',
    skipped: 'was skipped',
    repeated: 'was repeated',
    withheld: 'is withheld',
    left: 'says that you left',
  };
  return {
    element,
    show() {
      const last = family.violations.at(-1);
      element.hidden = !last;
      if (!last) return;
      const group = family.groups.get(last.group_id)?.name ?? 'a group';
      const text = `The messages that the server sent for ${group} failed a check: number ${last.seq} ${names[last.kind]}. Something may be missing or altered. Ask the person who runs the server.`;
      if (element.firstChild?.textContent === text) return;
      const dismiss = () => {
        family.violations = [];
        family.changed();
      };
      put(element, h('p', {}, text), h('button', { type: 'button', class: 'quiet', onclick: dismiss }, icon('close'), 'Dismiss'));
    },
  };
}

/** The page of one member. */
class Home {
  /** @type {Route} */
  #route = {};
  /** @type {string | undefined} */
  #sentKey;
  /** @type {Map<string, string>} The threads of the texts that were sent last, by their keys. */
  #sent = new Map();
  #listeners = new AbortController();
  #queued = false;
  #inspecting = false;
  #toasts = h('div', { class: 'toasts', role: 'status' });
  #log = h('div', { class: 'sr', role: 'log', 'aria-label': 'News' });
  #newer = newerVersion();
  /** @type {{element: HTMLElement, show: () => void} | undefined} */
  #standing;
  /** @type {Promise<void> | undefined} */
  #standingIs;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #clearing;
  /** @type {ReturnType<typeof setInterval>[]} */
  #timers = [];

  /** @param {HTMLElement} root @param {Family} family @param {{own: Own, push: Push, recorder: Recorder}} how */
  constructor(root, family, { own, push, recorder }) {
    this.family = family;
    /** @type {ViewContext} */
    const context = {
      family,
      push,
      route: () => this.#route,
      group: () => family.groups.get(this.#route.groupId ?? ''),
      go: (groupId, threadId) => {
        location.hash = address(groupId, threadId);
      },
      leaveGroup: () => {
        location.hash = '#/';
      },
      toast: (text) => this.#toast(text),
      later: (loading, act) =>
        void loading.then(act, () => this.#toast('This could not be loaded. Try again when the server can be reached.')),
      openWhenSent: (key) => {
        this.#sentKey = key;
        const threadId = this.#sent.get(key);
        // It was sent before it was said to be written.
        if (threadId) queueMicrotask(() => this.#openSent(key, threadId));
      },
    };
    this.context = context;
    this.push = push;
    this.header = makeHeader(context, { own, toggleInspector: () => this.#inspect(!this.#inspecting) });
    this.groupList = makeGroupList(context);
    this.threadList = makeThreadList(context);
    this.thread = makeThread(context);
    this.alarm = makeAlarm(family);
    this.offer = makeOffer(family, push);
    this.inspector = makeInspector(family, recorder, () => this.#inspect(false));
    const main = h('main', { id: 'main' }, this.groupList.element, this.threadList.element, this.thread.element);
    const { bar, banner } = this.header;
    const columns = h('div', { class: 'columns' }, main, this.inspector.element);
    const skip = h('button', { type: 'button', class: 'quiet skip', onclick: () => this.#skip() }, 'Skip to the conversation');
    this.element = h(
      'div',
      { class: 'home' },
      skip,
      bar,
      banner,
      this.#newer,
      this.offer.element,
      this.alarm.element,
      columns,
      this.#toasts,
      this.#log,
    );
    put(root, this.element);
    this.inspector.element.addEventListener('keydown', ({ key }) => key === 'Escape' && this.#inspect(false));
    this.#listen();
    this.#routed();
  }

  #listen() {
    const { family } = this;
    const { signal } = this.#listeners;
    const changed = () => this.#changed();
    const on = (/** @type {string} */ name, /** @type {(detail: any) => void} */ act) =>
      family.addEventListener(name, (/** @type {any} */ event) => act(event.detail), { signal });
    on('change', changed);
    on('news', (news) => this.#news(news));
    on('trouble', (text) => this.#toast(text));
    on('removed', (group) => this.#removed(group));
    on('sent', ({ key, threadId }) => this.#openSent(key, threadId));
    addEventListener('hashchange', () => this.#routed(), { signal });
    addEventListener('online', changed, { signal });
    addEventListener('offline', changed, { signal });
    addEventListener('storage', ({ key }) => family.storedElsewhere(key), { signal });
    // A file that is dropped outside the field must not replace the page.
    for (const name of ['dragover', 'drop']) addEventListener(name, (event) => event.preventDefault(), { signal });
    document.addEventListener('visibilitychange', () => document.visibilityState === 'visible' && this.#refresh(), { signal });
    const workers = navigator.serviceWorker;
    workers?.addEventListener(
      'message',
      ({ data }) => {
        if (data === 'newer') this.#newer.hidden = false;
        // A push message came although the page is visible: its connection is lost.
        if (data === 'called') family.wake();
      },
      { signal },
    );
    const askForNewer = () => document.visibilityState === 'visible' && workers?.controller?.postMessage('check');
    document.addEventListener('visibilitychange', askForNewer, { signal });
    this.#timers = [
      setInterval(askForNewer, NEWER_MS),
      setInterval(() => family.state.status !== 'open' && this.header.showConnection(), 1000),
      setInterval(() => document.visibilityState === 'visible' && this.#refresh(), REFRESH_MS),
      setInterval(() => document.visibilityState === 'visible' && family.state.status === 'open' && family.probe(), PROBE_MS),
      setInterval(() => document.visibilityState === 'visible' && family.state.retry_at && this.#poll(), POLL_MS),
    ];
    document.addEventListener('visibilitychange', () => void this.push.report(), { signal });
    this.#chooseFirst(on);
  }

  /** Open the first group when the list is loaded. @param {(name: string, act: (detail: any) => void) => void} on */
  #chooseFirst(on) {
    let chosen = false;
    on('change', () => {
      if (chosen || this.family.loaded !== 'yes') return;
      chosen = true;
      const [only, ...others] = this.family.groups.keys();
      if (!this.#route.groupId && only && !others.length) location.replace(address(only));
      else this.#routed();
    });
  }

  /** @param {string} key @param {string} threadId */
  #openSent(key, threadId) {
    this.#sent.set(key, threadId);
    const [oldest] = this.#sent.keys();
    if (oldest && this.#sent.size > SENT_KEPT) this.#sent.delete(oldest);
    if (key !== this.#sentKey) return;
    this.#sentKey = undefined;
    const { groupId } = this.#route;
    if (!this.#route.threadId && groupId) this.context.go(groupId, threadId);
  }

  #refresh() {
    refreshTimes();
    void this.family.refresh();
    const group = this.context.group();
    if (group && this.family.state.status === 'open') void this.family.people.load(group);
    this.#changed();
  }

  async #poll() {
    const group = this.context.group();
    const answered = group !== undefined && (await poll(this.family, group));
    this.family.polled = answered && this.family.state.status !== 'open';
    this.#changed();
  }

  #changed() {
    if (this.#queued) return;
    this.#queued = true;
    queueMicrotask(() => {
      this.#queued = false;
      this.#show();
    });
  }

  #show() {
    if (this.#listeners.signal.aborted) return;
    const { family } = this;
    const { threadId, writing } = this.#route;
    const group = this.context.group();
    // Without a group, its explanation takes the place of the threads.
    const pane =
      !family.groups.size || (!group && this.#route.groupId) ? 'threads' : !group ? 'groups' : threadId || writing ? 'thread' : 'threads';
    this.element.dataset.pane = pane;
    this.header.show();
    this.alarm.show();
    this.offer.show();
    this.#showStanding(group);
    this.#clearSoon();
    this.groupList.show();
    this.threadList.show();
    this.thread.show();
  }

  /** Only groups of version 2 load its part of the page. @param {Group | undefined} group */
  #showStanding(group) {
    if (this.#standing) this.#standing.show();
    else if (group?.begun && !this.#standingIs) {
      this.#standingIs = import('./standing.js').then(
        ({ makeStanding }) => {
          this.#standing = makeStanding(this.context);
          this.alarm.element.after(this.#standing.element);
          this.#standing.show();
        },
        () => {
          this.#standingIs = undefined;
        },
      );
    }
  }

  #routed() {
    const was = this.#route;
    const here = readRoute(location.hash);
    this.#route = here;
    // A wide screen has room for a group beside the list of them.
    const [first] = this.family.groups.values();
    if (!here.groupId && first && matchMedia('(min-width: 56.25em)').matches) return location.replace(address(first.id));
    const group = this.context.group();
    if (was.groupId !== here.groupId && group) void this.family.people.load(group);
    this.#show();
    if ((here.writing && !was.writing) || (here.threadId && here.threadId !== was.threadId)) this.thread.focus();
    else if (!here.threadId && (was.threadId || was.writing)) this.threadList.focus();
  }

  /** Focus the reply field, or the first thread where none is open. */
  #skip() {
    /** @type {HTMLElement | null} */
    const field = this.thread.element.querySelector('textarea');
    if (field) field.focus();
    else this.threadList.focus();
  }

  /** @param {boolean} opened */
  #inspect(opened) {
    this.#inspecting = opened;
    this.element.classList.toggle('seeing', opened);
    this.inspector.toggle(opened);
    this.header.eye.setAttribute('aria-expanded', String(opened));
    if (!opened) this.header.eye.focus();
  }

  /** Close notifications of what was read meanwhile. */
  #clearSoon() {
    this.#clearing ??= setTimeout(() => {
      this.#clearing = undefined;
      this.push.clearRead().catch(() => {});
    }, CLEAR_MS);
  }

  /** @param {string} text */
  #toast(text) {
    const node = h('p', {}, text);
    this.#toasts.append(node);
    setTimeout(() => node.remove(), TOAST_MS);
  }

  /** @param {Group} group */
  #removed(group) {
    this.#toast(`You are no longer a member of ${group.name ?? 'a group'}.`);
    // Close the group's view.
    if (this.#route.groupId === group.id) location.replace('#/');
  }

  /** @param {import('../model/types.js').News} news */
  #news({ kind, group, thread, author, text, more }) {
    const seen = document.visibilityState === 'visible' && this.#route.threadId === thread.id;
    const title = cut(thread.title) || '…';
    const what = kind === 'thread' ? `${author} started “${title}”` : `${author} in “${title}”`;
    const said = more ? `${excerpt(text)} (and ${more} more)` : excerpt(text);
    put(this.#log, h('p', {}, kind === 'thread' ? what : `${what}: ${said}`));
    // While the page is hidden the server calls the device.
    const called = this.push.on && document.visibilityState !== 'visible';
    if (!seen && !called) void notify(what, kind === 'thread' ? (group.name ?? '') : said, address(group.id, thread.id), thread.id);
  }

  stop() {
    this.#listeners.abort();
    clearTimeout(this.#clearing);
    for (const timer of this.#timers) clearInterval(timer);
    this.thread.stop();
    this.inspector.stop();
  }
}

/**
 * Show the home of a member.
 *
 * @param {HTMLElement} root
 * @param {Family} family
 * @param {{own: Own, push: Push, recorder: Recorder}} how
 * @returns {() => void} Removes its listeners.
 */
export function showHome(root, family, how) {
  const home = new Home(root, family, how);
  return () => home.stop();
}
