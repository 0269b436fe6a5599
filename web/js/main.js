/** Entry point: opens the welcome page or, with a stored session, the member's page; leader election between tabs. */
import { Recorder } from './debug/traffic-recorder.js';
import { Family } from './model/family.js';
import { readInvitation, readPass } from './model/invitation.js';
import { addressAfterLogin, LOGIN_QUERY } from './model/login-proxy.js';
import { Push } from './model/push.js';
import { SessionStore } from './model/session.js';
import { Shelf } from './model/shelf.js';
import { deleteDevice, keys, uploads } from './model/vault.js';
import { confirmJoin, deadLink } from './views/dialogs/groups.js';
import { h, put } from './views/dom.js';
import { showHome } from './views/home.js';
import { address, pageAddress } from './views/route.js';
import { welcome } from './views/welcome.js';
import { say } from './views/window.js';
import { OrbitalClient } from '/sdk/client.js';
import { localStorageStore } from '/sdk/stores.js';

/** @import {Session} from './model/types.js' */
/** @import {Own} from './views/dialogs/account.js' */

const query = new URLSearchParams(location.search);
/** Two members side by side share this browser's storage: each has its own session. */
const sessionName = `orbital-session${query.has('member') ? `:${query.get('member')}` : ''}`;
const root = /** @type {HTMLElement} */ (document.getElementById('app'));
const BROKEN = 'This link is incomplete, or a letter in it is wrong. Ask the person who sent it for the link again.';

/** Whether this browser lets the page use localStorage. */
function keeps() {
  try {
    return Boolean(localStorage);
  } catch {
    return false;
  }
}

/** Show an error instead of the page. @param {string} text */
const stopped = (text) => put(root, h('main', { class: 'welcome' }, h('p', { class: 'problem', role: 'alert' }, text)));

/** Read an invitation and remove it from the address first: the key must not stay in the history. */
function takeInvitation() {
  const found = readInvitation(location.hash);
  if (!/^#join=/.test(location.hash)) return undefined;
  history.replaceState(null, '', `${location.pathname}${location.search}#/`);
  return found;
}

/** Read the operator's invitation, which is good for one account, and remove it from the address. */
function takePass() {
  const pass = readPass(location.hash);
  if (pass) history.replaceState(null, '', `${location.pathname}${location.search}#/`);
  return pass;
}

/** @param {string} name @param {() => Promise<void>} act @returns {Promise<boolean>} False when another tab holds the lock. */
const exclusive = (name, act) =>
  navigator.locks.request(name, { ifAvailable: true }, async (lock) => {
    if (lock) await act();
    return lock !== null;
  });

/** @template T @param {string} name @param {() => Promise<T>} act @returns {Promise<T>} */
const alone = (name, act) => navigator.locks.request(name, act);

/** Ask the browser not to delete anything by itself. @returns {Promise<boolean>} */
const persist = async () => (await navigator.storage?.persisted?.()) || (await navigator.storage?.persist?.().catch(() => false)) || false;

/** The page of one browser tab: welcome page, session, invitation. */
class Page {
  #sessionStore = new SessionStore(localStorage, sessionName, navigator.locks);
  /** @type {ReturnType<typeof takeInvitation>} Kept until somebody is logged in. */
  #invitation = takeInvitation();
  #pass = takePass();
  /** @type {(() => void) | undefined} */
  #leaveHome;

  begin() {
    const session = this.#sessionStore.get();
    if (session) this.#inside(session);
    else this.#outside();
    addEventListener('storage', this.#sessionElsewhere);
    addEventListener('hashchange', () => {
      this.#invitation = takeInvitation() ?? this.#invitation;
      const pass = takePass();
      if (pass) {
        this.#pass = pass;
        if (!this.#home) this.#outside();
      }
      this.#answerInvitation();
    });
  }

  /** @param {string} [message] */
  #outside(message) {
    document.title = 'Orbital';
    const invited = this.#invitation;
    const broken = invited && invited.kind !== 'invitation' ? BROKEN : undefined;
    welcome(root, {
      invited: invited?.kind === 'invitation',
      pass: this.#pass ?? (invited?.kind === 'invitation' ? invited.code : undefined),
      known: localStorage.getItem('orbital-known') !== null,
      message: message ?? broken,
      entered: (session) => {
        this.#pass = undefined;
        this.#sessionStore.set(session);
        try {
          localStorage.setItem('orbital-known', '1');
        } catch {
          // Without room the next visit starts with the sign-up form.
        }
        this.#inside(session, true);
      },
    });
  }

  /** @type {{family: Family, push: Push, started: Promise<void>} | undefined} */
  #home;

  /** @param {Session} session @param {boolean} [entered] Logged in just now, not by an earlier visit. */
  #inside(session, entered = false) {
    const recorder = new Recorder();
    const client = new OrbitalClient(pageAddress(location), {
      // Another tab may have logged in again: its token is as good.
      token: () => this.#token(session),
      store: localStorageStore(`orbital:${session.user_id}:`),
      verify: true,
      WebSocket: recorder.WebSocket,
      fetch: /** @type {typeof fetch} */ (recorder.fetch),
    });
    const visible = () => document.visibilityState === 'visible';
    const family = new Family(session, { client, storage: localStorage, keys, uploads, exclusive, alone, visible, persist });
    /** @type {Own} */
    const own = {
      leave: (forget) => this.#logOut(family, forget),
      token: () => this.#token(session),
      replace: (ask) => this.#replaceToken(family, ask),
      deleted: () => this.#deleted(family),
    };
    const worker = () => navigator.serviceWorker.ready;
    const push = new Push(family, new Shelf(localStorage, `orbital-push:${session.user_id}`), { worker, visible });
    const started = family.start();
    // A family that cannot start shows why itself.
    const silent = () => {};
    started.then(() => push.start().catch((error) => console.warn('orbital: push messages:', error.message)), silent);
    this.#home = { family, push, started };
    this.#leaveHome = showHome(root, family, { own, push, recorder });
    family.addEventListener('ended', () => this.#end(family, 'You were logged out. Please log in again. Your drafts are saved.'), {
      once: true,
    });
    started.catch((error) => {
      family.stop();
      this.#leaveHome?.();
      stopped(`This browser does not let the page store its keys: ${error.message}`);
    });
    this.#answerInvitation(entered);
  }

  /** Another tab has logged in or out, or changed the password, which ends the session here before the new token is stored. @param {StorageEvent} event */
  #sessionElsewhere = ({ key }) => {
    const home = this.#home;
    if (key !== this.#sessionStore.name) return;
    const now = this.#sessionStore.get();
    if (home && now?.user_id === home.family.session.user_id) return;
    // The other tab was refused with the old token; the new one is stored in a moment.
    if (!now && this.#coming) return;
    if (home) this.#end(home.family, now ? undefined : 'You are logged out.');
    if (now) this.#inside(now);
  };

  /** Handle an opened invitation, once a member is logged in. @param {boolean} [accepted] The member logged in from the invitation: join without asking. */
  #answerInvitation(accepted = false) {
    const home = this.#home;
    const invitation = this.#invitation;
    if (!home || !invitation) return;
    this.#invitation = undefined;
    const { family, started } = home;
    const go = (/** @type {string} */ groupId) => {
      location.hash = address(groupId);
    };
    const answer = async () => {
      if (!('raw' in invitation)) return deadLink(BROKEN);
      const known = await family.membership.recognize(invitation.raw);
      if (known) return go(known);
      if (invitation.kind === 'key')
        return deadLink('This link has no invite code, so you cannot join a group with it. Ask for a new link.');
      if (!accepted) return confirmJoin(family, invitation, go);
      go(await family.membership.join(invitation.code, invitation.raw, invitation.inviter));
    };
    const failed = (/** @type {any} */ error) =>
      error.code === 'NOT_FOUND'
        ? deadLink('This invite link is no longer valid. Ask the person who sent it for a new one.')
        : invitation.kind === 'invitation' && confirmJoin(family, invitation, go, say(error));
    // Joining needs the keys, so wait until they are loaded.
    started.then(
      () => answer().catch(failed),
      () => {},
    );
  }

  /** @param {Family} family @param {string} [message] */
  #end(family, message) {
    family.stop();
    this.#home?.push.stop();
    this.#leaveHome?.();
    this.#home = undefined;
    for (const box of document.querySelectorAll('dialog')) box.close();
    this.#sessionStore.end(family.session.token);
    this.#outside(message);
  }

  /** @type {Promise<string> | undefined} The token that a request is about to return: the server ends the old one before its answer is here. */
  #coming;

  /** @param {Session} session @returns {Promise<string>} */
  async #token(session) {
    if (!this.#coming) await this.#sessionStore.replaced();
    return this.#coming ?? this.#sessionStore.token(session);
  }

  /** Make a request that ends all tokens of the session and returns a new one. @param {Family} family @param {(token: string) => Promise<{token: string}>} ask */
  async #replaceToken(family, ask) {
    const before = this.#sessionStore.token(family.session);
    const asking = this.#sessionStore.replace(family.session, ask);
    this.#coming = asking.catch(() => before);
    try {
      await asking;
    } finally {
      this.#coming = undefined;
    }
    // The server has closed the connection of the old token.
    family.wake();
  }

  /** Delete everything of a member from this browser. @param {Family} family */
  async #forget(family) {
    const { user_id } = family.session;
    family.stop();
    await deleteDevice(user_id);
    await keys.clear(`${user_id}/`);
    await uploads.clear(`${user_id}/`);
    for (const name of Object.keys(localStorage)) if (name.includes(user_id)) localStorage.removeItem(name);
  }

  /** @param {Family} family */
  async #deleted(family) {
    await this.#home?.push.leave().catch(() => {});
    this.#sessionStore.end(this.#sessionStore.token(family.session));
    await this.#forget(family);
    history.replaceState(null, '', location.pathname + location.search);
    this.#end(family, 'Your account is deleted, and so are its keys in this browser.');
  }

  /** @param {Family} family @param {boolean} forget */
  async #logOut(family, forget) {
    await this.#home?.push.leave().catch(() => {});
    await family.api.logout().catch(() => {});
    this.#sessionStore.end(this.#sessionStore.token(family.session));
    if (forget) await this.#forget(family);
    history.replaceState(null, '', location.pathname + location.search);
    this.#end(family, forget ? 'You are logged out, and the keys are deleted from this browser.' : 'You are logged out.');
  }
}

const back = keeps() && addressAfterLogin(location, sessionStorage);

// The login's address is the network's own: opened again without it, the page is one whole version.
if (back && query.has(LOGIN_QUERY)) location.replace(back);
else if (!keeps())
  stopped(
    'This browser stores nothing for this page, and no keys either: it blocks cookies and site data here. Allow them for this address, and reload the page.',
  );
else if (query.has('demo')) void import('./demo.js').then(({ demo }) => demo(root, query.get('demo') === 'now'));
else {
  if (back) history.replaceState(null, '', back);
  new Page().begin();
  navigator.serviceWorker?.register('sw.js').catch(() => {});
}
