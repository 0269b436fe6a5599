/**
 * The service worker: an offline cache (precache) of the page's own files, so that it opens without a network. It keeps whole
 * versions, and serves each tab from one of them. It never keeps content: no answer of the API and no photo passes through here.
 */

/** Header on every file that the server itself sends, with the version of the page. A proxy's or captive portal's answer lacks it. */
const MARK = 'x-orbital-page';
/** Path that the page has on its host, `/` or `/orbital/`. The caches of a host are shared by all of its pages. */
const BASE = new URL('.', location.href).pathname;
const PREFIX = `orbital-page${BASE}:`;
/** Which version is current, and which one each tab has. */
const NOTES = `orbital-notes${BASE}`;
/** Query of a navigation to the login of a proxy in front of the server (`js/model/login-proxy.js`). */
const LOGIN_QUERY = 'login';
/** How long to wait for the network before the cached version is used. */
const PATIENCE_MS = 4000;

/** The page's files, by their path below BASE. */
const SHELL = [
  '/',
  '/app.css',
  '/icon-192.png',
  '/icon.svg',
  '/js/crypto/bytes.js',
  '/js/crypto/envelope.js',
  '/js/crypto/files.js',
  '/js/crypto/group-key.js',
  '/js/crypto/identity.js',
  '/js/debug/traffic-inspector.js',
  '/js/debug/traffic-recorder.js',
  '/js/demo.js',
  '/js/main.js',
  '/js/model/cipher-contents.js',
  '/js/model/cipher-device.js',
  '/js/model/cipher-outbox.js',
  '/js/model/cipher-roster.js',
  '/js/model/cipher.js',
  '/js/model/connection.js',
  '/js/model/device-name.js',
  '/js/model/downloads.js',
  '/js/model/drafts.js',
  '/js/model/events.js',
  '/js/model/family.js',
  '/js/model/group-keys.js',
  '/js/model/group.js',
  '/js/model/invitation.js',
  '/js/model/login-proxy.js',
  '/js/model/medium.js',
  '/js/model/membership.js',
  '/js/model/outbox.js',
  '/js/model/people.js',
  '/js/model/poll.js',
  '/js/model/push.js',
  '/js/model/qr.js',
  '/js/model/reads.js',
  '/js/model/session.js',
  '/js/model/shelf.js',
  '/js/model/threads.js',
  '/js/model/typing.js',
  '/js/model/uploads.js',
  '/js/model/vault.js',
  '/js/model/versions.js',
  '/js/model/writer.js',
  '/js/views/admin/page.js',
  '/js/views/admin/people.js',
  '/js/views/admin/server.js',
  '/js/views/composer.js',
  '/js/views/dialogs/account.js',
  '/js/views/dialogs/devices.js',
  '/js/views/dialogs/groups.js',
  '/js/views/dialogs/histories.js',
  '/js/views/dialogs/invite.js',
  '/js/views/dialogs/members.js',
  '/js/views/dialogs/notifications.js',
  '/js/views/dialogs/own-account.js',
  '/js/views/dialogs/safety-code.js',
  '/js/views/dom.js',
  '/js/views/group-list.js',
  '/js/views/header.js',
  '/js/views/home.js',
  '/js/views/icons.js',
  '/js/views/input.js',
  '/js/views/items.js',
  '/js/views/markdown/parse.js',
  '/js/views/markdown/render.js',
  '/js/views/media.js',
  '/js/views/new-thread.js',
  '/js/views/no-threads.js',
  '/js/views/notify.js',
  '/js/views/password.js',
  '/js/views/route.js',
  '/js/views/standing.js',
  '/js/views/thread-list.js',
  '/js/views/thread.js',
  '/js/views/waiting.js',
  '/js/views/welcome.js',
  '/js/views/window.js',
  '/js/views/words.js',
  '/manifest.webmanifest',
  '/sdk/account-requests.js',
  '/sdk/admin.js',
  '/sdk/advice.js',
  '/sdk/backoff.js',
  '/sdk/base-client.js',
  '/sdk/catch-up.js',
  '/sdk/chain.js',
  '/sdk/client.js',
  '/sdk/connection.js',
  '/sdk/cursor.js',
  '/sdk/draft.js',
  '/sdk/emitter.js',
  '/sdk/errors.js',
  '/sdk/groups.js',
  '/sdk/handshake.js',
  '/sdk/http.js',
  '/sdk/key-requests.js',
  '/sdk/log.js',
  '/sdk/media.js',
  '/sdk/outbox.js',
  '/sdk/parts.js',
  '/sdk/push-requests.js',
  '/sdk/reader.js',
  '/sdk/renewal.js',
  '/sdk/requests.js',
  '/sdk/reset.js',
  '/sdk/rest.js',
  '/sdk/sha256.js',
  '/sdk/stores.js',
  '/sdk/subscription-state.js',
  '/sdk/subscription.js',
  '/sdk/timers.js',
  '/sdk/typing.js',
  '/sdk/uuid.js',
  '/sdk/verify.js',
  '/sdk/wire.js',
  '/vendor/e2ee.js',
  '/vendor/ml-kem.js',
];

/** @type {Map<string, Map<string, Response>>} Loaded versions in memory, by their mark: the only copy when the disk is full. */
const loaded = new Map();
/** @type {Map<string, string>} The version of each tab; stored on the disk too, if there is room. */
const tabs = new Map();

/** @param {string} name @returns {Promise<string | undefined>} */
const noted = async (name) => (await (await caches.open(NOTES)).match(name))?.text();

/** @param {string} name @param {string} value */
const note = async (name, value) => {
  // If the disk is full, a tab gets the current version.
  await (await caches.open(NOTES)).put(name, new Response(value)).catch(() => {});
};

/** @param {string} path One of SHELL. @param {AbortSignal} [signal] @returns {Promise<Response | undefined>} The server's own answer; undefined for any other. */
async function ask(path, signal) {
  try {
    const answer = await fetch(BASE + path.slice(1), { cache: 'no-cache', signal });
    return answer.ok && answer.headers.has(MARK) ? answer : undefined;
  } catch {
    return undefined;
  }
}

/** Load all files of a version, or none. @param {string} version @param {AbortSignal} [signal] @returns {Promise<boolean>} */
async function load(version, signal) {
  if (loaded.has(version)) return true;
  const answers = await Promise.all(SHELL.map((path) => ask(path, signal)));
  if (!answers.every((answer) => answer?.headers.get(MARK) === version)) return false;
  try {
    // A truncated body throws here, before anything is stored.
    const whole = await Promise.all(answers.map(async (answer) => new Response(await answer.blob(), { headers: answer.headers })));
    loaded.set(version, new Map(SHELL.map((path, index) => [path, whole[index]])));
    return true;
  } catch {
    return false;
  }
}

/** Store a loaded version, and make it the current one. @param {string} version @returns {Promise<boolean>} False when the disk is full. */
async function keep(version) {
  try {
    const cache = await caches.open(PREFIX + version);
    for (const [path, answer] of loaded.get(version)) await cache.put(path, answer.clone());
    await note('/current', version);
    return true;
  } catch {
    await caches.delete(PREFIX + version);
    return false;
  }
}

/** @param {string} id Of a tab. @returns {Promise<string | undefined>} */
const versionOf = async (id) => tabs.get(id) ?? noted(`/client/${id}`);

/** Delete the records of closed tabs, and versions that no open tab uses. @param {string} [opening] The id of a tab that is being opened. */
async function tidy(opening) {
  const open = new Set((await clients.matchAll({ includeUncontrolled: true })).map(({ id }) => id));
  const notes = await caches.open(NOTES);
  const wanted = new Set([await noted('/current')]);
  for (const id of open) wanted.add(await versionOf(id));
  for (const id of tabs.keys()) if (!open.has(id) && id !== opening) tabs.delete(id);
  for (const request of await notes.keys()) {
    const [, id] = /\/client\/(.+)$/.exec(request.url) ?? [];
    if (id && !open.has(id) && id !== opening) await notes.delete(request);
  }
  for (const name of await caches.keys()) if (name.startsWith(PREFIX) && !wanted.has(name.slice(PREFIX.length))) await caches.delete(name);
  for (const version of loaded.keys()) if (!wanted.has(version)) loaded.delete(version);
}

/** @param {string} version @param {string} path @returns {Promise<Response | undefined>} */
async function find(version, path) {
  const answer = loaded.get(version)?.get(path)?.clone() ?? (await (await caches.open(PREFIX + version)).match(path));
  if (answer) return answer;
  const fresh = await ask(path);
  return fresh?.headers.get(MARK) === version ? fresh : undefined;
}

addEventListener('install', (event) => {
  const install = async () => {
    const version = (await ask('/'))?.headers.get(MARK);
    if (!version || !(await load(version)) || !(await keep(version))) throw new Error('the page could not be kept');
    await skipWaiting();
  };
  event.waitUntil(install());
});

addEventListener('activate', (event) => {
  const activate = async () => {
    const current = await noted('/current');
    for (const { id } of await clients.matchAll({ includeUncontrolled: true })) {
      // A tab that was opened before the service worker existed has the version that was just stored.
      if (current && !(await versionOf(id))) tabs.set(id, current);
      if (current && !(await noted(`/client/${id}`))) await note(`/client/${id}`, tabs.get(id) ?? current);
    }
    await tidy();
    await clients.claim();
  };
  event.waitUntil(activate());
});

addEventListener('fetch', (event) => {
  const { origin, pathname, searchParams } = new URL(event.request.url);
  if (!pathname.startsWith(BASE)) return;
  const below = `/${pathname.slice(BASE.length)}`;
  const path = below === '/index.html' ? '/' : below;
  if (event.request.method !== 'GET' || origin !== location.origin || !SHELL.includes(path)) return;
  if (event.request.mode !== 'navigate') return event.respondWith(part(event, path));
  // The member asked for the login of a proxy: the browser gets what the proxy answers, and nothing of it is stored.
  if (!searchParams.has(LOGIN_QUERY)) event.respondWith(open(event));
});

/** Answer a navigation with the newest version that loads completely in time, or with the stored one. */
async function open(event) {
  const patience = AbortSignal.timeout(PATIENCE_MS);
  const kept = await noted('/current');
  const fresh = await ask('/', patience);
  const newest = fresh?.headers.get(MARK);
  const serve = async (/** @type {string} */ version) => {
    tabs.set(event.resultingClientId, version);
    await note(`/client/${event.resultingClientId}`, version);
    return find(version, '/');
  };
  if (newest && newest !== kept && (await load(newest, patience))) {
    if (await keep(newest)) event.waitUntil(tidy(event.resultingClientId));
    return serve(newest);
  }
  // A version that loads too slowly is stored for the next visit.
  if (newest && newest !== kept) event.waitUntil(load(newest).then((whole) => whole && keep(newest)));
  return (kept && (await serve(kept))) || fetch(event.request);
}

/** Answer a request of an open page with a file of that tab's version only. */
async function part(event, pathname) {
  const version = (await versionOf(event.clientId)) ?? (await noted('/current'));
  return (version && (await find(version, pathname))) || (version ? Response.error() : fetch(event.request));
}

/** Load the server's version if it is another one than a tab has, and tell the tab. @param {Client} tab */
async function check(tab) {
  const newest = (await ask('/'))?.headers.get(MARK);
  if (!newest || newest === (await versionOf(tab.id)) || !(await load(newest))) return;
  if (newest !== (await noted('/current'))) await keep(newest);
  tab.postMessage('newer');
}

addEventListener('message', (event) => {
  if (event.data === 'check') event.waitUntil(check(event.source));
});

// A classic script: not every browser has service workers of modules.
importScripts('sw-push.js');

addEventListener('notificationclick', (event) => {
  event.notification.close();
  const show = async () => {
    const [page] = await clients.matchAll({ type: 'window' });
    const where = `${BASE}${event.notification.data?.where ?? ''}`;
    if (!page) return clients.openWindow(where);
    await page.focus();
    return page.navigate(where);
  };
  event.waitUntil(show());
});
