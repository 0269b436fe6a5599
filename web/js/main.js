/** The way in: who is here, and what is shown to them. */
import { dialog, form, readInvitation, say } from './dialogs.js';
import { h, put } from './dom.js';
import { Family } from './family.js';
import { home } from './home.js';
import { keys, uploads } from './vault.js';
import { welcome } from './welcome.js';

/** @typedef {import('./family.js').Session} Session */

const query = new URLSearchParams(location.search);
/** Two members side by side share this browser's storage: each has a place of its own for its session. */
const place = `orbital-session${query.has('member') ? `:${query.get('member')}` : ''}`;
const root = /** @type {HTMLElement} */ (document.getElementById('app'));

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

/** @returns {Session | null} */
function session() {
  try {
    return JSON.parse(localStorage.getItem(place) ?? 'null');
  } catch {
    return null;
  }
}

/** @param {string} [message] */
function outside(message) {
  document.title = 'Orbital';
  welcome(root, {
    invited: Boolean(readInvitation(location.hash)),
    message,
    entered: (entered) => {
      const { user_id, username, token } = entered;
      try {
        localStorage.setItem(place, JSON.stringify({ user_id, username, token }));
        localStorage.setItem('orbital-known', '1');
      } catch {
        // There is no room: the session lasts as long as the page.
      }
      inside({ user_id, username, token });
    },
  });
}

/** @param {Session} who */
function inside(who) {
  const family = new Family(who);
  const end = (/** @type {string | undefined} */ message) => {
    family.stop();
    takeDown();
    for (const box of document.querySelectorAll('dialog')) box.close();
    localStorage.removeItem(place);
    removeEventListener('hashchange', invited);
    outside(message);
  };
  const leave = async (/** @type {boolean} */ forget) => {
    await family.api.logout().catch(() => {});
    if (forget) {
      await keys.clear(`${who.user_id}/`);
      await uploads.clear(`${who.user_id}/`);
      for (const name of Object.keys(localStorage)) if (name.includes(who.user_id)) localStorage.removeItem(name);
    }
    history.replaceState(null, '', location.pathname + location.search);
    end(forget ? 'You are logged out, and the keys are gone from this browser.' : 'You are logged out.');
  };
  const started = family.start();
  const invited = () => {
    const invitation = readInvitation(location.hash);
    if (!invitation) return;
    // The key leaves the address before anything else happens: it must not stay in the history, nor be lost to the choice of a group.
    history.replaceState(null, '', `${location.pathname}${location.search}#/`);
    const join = async () => {
      const groupId = await family.join(invitation.code, invitation.raw);
      location.hash = `#/g/${groupId}`;
    };
    const failed = (/** @type {any} */ error) =>
      dialog('This invitation', (close) => [
        h('p', {}, error.code === 'NOT_FOUND' ? 'The code of this link opens nothing any more. Ask for a new link.' : say(error)),
        form({ label: 'Try again', act: () => join().then(close) }),
      ]);
    // Nothing can be joined before the keys are there.
    started.then(() => join().catch(failed), () => {});
  };
  // Before the home: it reads the address, too.
  addEventListener('hashchange', invited);
  invited();
  const takeDown = home(root, family, { leave });
  family.addEventListener('ended', () => end('You were logged out: log in again, please.'), { once: true });
  started.catch((error) => {
    family.stop();
    takeDown();
    stopped(`This browser does not let the page keep its keys: ${error.message}`);
  });
}

if (!keeps()) stopped('This browser keeps nothing for this page, and so no keys either: it blocks cookies and site data here. Allow them for this address, and load the page again.');
else if (query.has('demo')) void import('./demo.js').then(({ demo }) => demo(root, query.get('demo') === 'now'));
else {
  const who = session();
  if (who) inside(who);
  else outside();
  navigator.serviceWorker?.register('/sw.js').catch(() => {});
}
