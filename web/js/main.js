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
      localStorage.setItem(place, JSON.stringify({ user_id, username, token }));
      localStorage.setItem('orbital-known', '1');
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
  const invited = () => {
    const invitation = readInvitation(location.hash);
    if (!invitation) return;
    // The key leaves the address before anything else happens: it must not stay in the history.
    history.replaceState(null, '', `${location.pathname}${location.search}#/`);
    const join = async () => {
      const groupId = await family.join(invitation.code, invitation.raw);
      location.hash = `#/g/${groupId}`;
    };
    join().catch((error) =>
      dialog('This invitation', (close) => [
        h('p', {}, error.code === 'NOT_FOUND' ? 'The code of this link opens nothing any more. Ask for a new link.' : say(error)),
        form({ label: 'Try again', act: () => join().then(close) }),
      ]),
    );
  };
  const takeDown = home(root, family, { leave });
  family.addEventListener('ended', () => end('You were logged out: log in again, please.'), { once: true });
  const started = family.start();
  addEventListener('hashchange', invited);
  started.then(invited, (error) => {
    put(root, h('main', { class: 'welcome' }, h('p', { class: 'problem' }, `This browser does not let the page keep its keys: ${error.message}`)));
  });
}

if (query.has('demo')) void import('./demo.js').then(({ demo }) => demo(root, query.get('demo') === 'now'));
else {
  const who = session();
  if (who) inside(who);
  else outside();
  navigator.serviceWorker?.register('/sw.js').catch(() => {});
}
