/** The entry: who is logged in, and what is shown to them. */
import { Recorder } from './debug/recorder.js';
import { Family } from './model/family.js';
import { readInvitation } from './model/invitation.js';
import { SessionPlace } from './model/session.js';
import { keys, uploads } from './model/vault.js';
import { confirmJoin, deadLink } from './views/dialogs/groups.js';
import { h, put } from './views/dom.js';
import { showHome } from './views/home.js';
import { address } from './views/route.js';
import { welcome } from './views/welcome.js';
import { say } from './views/window.js';
import { OrbitalClient } from '/sdk/client.js';
import { localStorageStore } from '/sdk/stores.js';

/** @import {Session} from './model/types.js' */

const query = new URLSearchParams(location.search);
/** Two members side by side share this browser's storage: each has a place of its own for its session. */
const placeName = `orbital-session${query.has('member') ? `:${query.get('member')}` : ''}`;
const root = /** @type {HTMLElement} */ (document.getElementById('app'));
const BROKEN = 'This link is not whole, or a letter of it is wrong. Ask the person who sent it for the link once more.';

/** Whether this browser keeps anything at all for this page. */
function keeps() {
  try {
    return Boolean(localStorage);
  } catch {
    return false;
  }
}

/** @param {string} text What is in the way. */
const stopped = (text) => put(root, h('main', { class: 'welcome' }, h('p', { class: 'problem', role: 'alert' }, text)));

/** The key leaves the address before anything else happens: it must not stay in the history. */
function takeInvitation() {
  const found = readInvitation(location.hash);
  if (!/^#join=/.test(location.hash)) return undefined;
  history.replaceState(null, '', `${location.pathname}${location.search}#/`);
  return found;
}

/** @param {string} name @param {() => Promise<void>} act @returns {Promise<boolean>} False when another tab does it. */
const exclusive = (name, act) =>
  navigator.locks.request(name, { ifAvailable: true }, async (lock) => {
    if (lock) await act();
    return lock !== null;
  });

/** Ask the browser not to delete anything by itself. @returns {Promise<boolean>} */
const persist = async () => (await navigator.storage?.persisted?.()) || (await navigator.storage?.persist?.().catch(() => false)) || false;

/** Everything of one browser. */
class Page {
  #place = new SessionPlace(localStorage, placeName);
  /** @type {ReturnType<typeof takeInvitation>} Kept until somebody is logged in. */
  #invitation = takeInvitation();
  /** @type {(() => void) | undefined} */
  #leaveHome;

  begin() {
    const session = this.#place.get();
    if (session) this.#inside(session);
    else this.#outside();
    addEventListener('hashchange', () => {
      this.#invitation = takeInvitation() ?? this.#invitation;
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
      known: localStorage.getItem('orbital-known') !== null,
      message: message ?? broken,
      entered: (session) => {
        this.#place.set(session);
        try {
          localStorage.setItem('orbital-known', '1');
        } catch {
          // Without room the next visit begins with signing up.
        }
        this.#inside(session, true);
      },
    });
  }

  /** @type {{family: Family, started: Promise<void>} | undefined} */
  #home;

  /** @param {Session} session @param {boolean} [entered] Logged in just now, not by an earlier visit. */
  #inside(session, entered = false) {
    const recorder = new Recorder();
    const client = new OrbitalClient(undefined, {
      // Another tab may have logged in again: its token is as good.
      token: () => this.#place.token(session),
      store: localStorageStore(`orbital:${session.user_id}:`),
      verify: true,
      WebSocket: recorder.WebSocket,
      fetch: /** @type {typeof fetch} */ (recorder.fetch),
    });
    const visible = () => document.visibilityState === 'visible';
    const family = new Family(session, { client, storage: localStorage, keys, uploads, exclusive, visible, persist });
    const leave = (/** @type {boolean} */ forget) => this.#logOut(family, forget);
    const started = family.start();
    this.#home = { family, started };
    this.#leaveHome = showHome(root, family, { leave, recorder });
    family.addEventListener('ended', () => this.#end(family, 'You were logged out: log in again, please. What you were writing is kept.'), {
      once: true,
    });
    addEventListener('storage', this.#sessionElsewhere);
    started.catch((error) => {
      family.stop();
      this.#leaveHome?.();
      stopped(`This browser does not let the page keep its keys: ${error.message}`);
    });
    this.#answerInvitation(entered);
  }

  /** Another tab has logged out, or logged somebody else in. @param {StorageEvent} event */
  #sessionElsewhere = ({ key }) => {
    const home = this.#home;
    if (key !== this.#place.name || !home) return;
    const now = this.#place.get();
    if (now?.user_id === home.family.session.user_id) return;
    this.#end(home.family, now ? undefined : 'You are logged out.');
    if (now) this.#inside(now);
  };

  /** What was opened as an invitation, once there is somebody to answer it. @param {boolean} [accepted] It was open while they came through the door. */
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
        return deadLink('The invite code of this link is missing, so it opens no group that you are not in yet. Ask for a new link.');
      if (!accepted) return confirmJoin(family, invitation, go);
      go(await family.membership.join(invitation.code, invitation.raw));
    };
    const failed = (/** @type {any} */ error) =>
      error.code === 'NOT_FOUND'
        ? deadLink('The code of this link opens nothing any more. Ask the person who sent it for a new link.')
        : invitation.kind === 'invitation' && confirmJoin(family, invitation, go, say(error));
    // Nothing can be joined before the keys are there.
    started.then(
      () => answer().catch(failed),
      () => {},
    );
  }

  /** @param {Family} family @param {string} [message] */
  #end(family, message) {
    family.stop();
    this.#leaveHome?.();
    this.#home = undefined;
    for (const box of document.querySelectorAll('dialog')) box.close();
    this.#place.end(family.session.token);
    removeEventListener('storage', this.#sessionElsewhere);
    this.#outside(message);
  }

  /** @param {Family} family @param {boolean} forget */
  async #logOut(family, forget) {
    const { user_id } = family.session;
    await family.api.logout().catch(() => {});
    this.#place.end(this.#place.token(family.session));
    if (forget) {
      family.stop();
      await keys.clear(`${user_id}/`);
      await uploads.clear(`${user_id}/`);
      for (const name of Object.keys(localStorage)) if (name.includes(user_id)) localStorage.removeItem(name);
    }
    history.replaceState(null, '', location.pathname + location.search);
    this.#end(family, forget ? 'You are logged out, and the keys are gone from this browser.' : 'You are logged out.');
  }
}

if (!keeps())
  stopped(
    'This browser keeps nothing for this page, and so no keys either: it blocks cookies and site data here. Allow them for this address, and load the page again.',
  );
else if (query.has('demo')) void import('./demo.js').then(({ demo }) => demo(root, query.get('demo') === 'now'));
else {
  new Page().begin();
  navigator.serviceWorker?.register('/sw.js').catch(() => {});
}
