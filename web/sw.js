/** Keeps the shell, so that the page opens without a network. It never keeps content: no answer of the API, no photo, passes through here. */
const CACHE = 'orbital-shell-1';
/** How long the network may take before what was kept is used. */
const PATIENCE_MS = 4000;

const SHELL = [
  '/',
  '/app.css',
  '/icon.svg',
  '/icon-192.png',
  '/manifest.webmanifest',
  ...['main', 'crypto', 'demo', 'dialogs', 'dom', 'family', 'home', 'markdown', 'traffic-inspector', 'traffic-recorder', 'transfers', 'vault', 'welcome'].map((name) => `/js/${name}.js`),
  ...['backoff', 'base-client', 'chain', 'client', 'connection', 'cursor', 'draft', 'emitter', 'errors', 'fill', 'http', 'media', 'outbox', 'parts', 'reader', 'renewal', 'reset', 'rest', 'sha256', 'socket', 'stores', 'subscription', 'timers', 'typing', 'uuid', 'wire'].map(
    (name) => `/sdk/${name}.js`,
  ),
];

addEventListener('install', (event) => {
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(SHELL)).then(() => skipWaiting()));
});

addEventListener('activate', (event) => {
  const tidy = async () => {
    for (const name of await caches.keys()) if (name !== CACHE) await caches.delete(name);
    await clients.claim();
  };
  event.waitUntil(tidy());
});

addEventListener('fetch', (event) => {
  const { origin, pathname } = new URL(event.request.url);
  if (event.request.method !== 'GET' || origin !== location.origin || !SHELL.includes(pathname)) return;
  event.respondWith(answer(event.request, pathname));
});

/** The network's answer, which is kept; without one, what was kept. */
async function answer(request, pathname) {
  const cache = await caches.open(CACHE);
  try {
    const fresh = await fetch(request, { signal: AbortSignal.timeout(PATIENCE_MS) });
    if (fresh.ok) await keep(cache, pathname, fresh.clone());
    return fresh.status < 500 ? fresh : ((await cache.match(pathname)) ?? fresh);
  } catch (cause) {
    const kept = await cache.match(pathname);
    if (kept) return kept;
    throw cause;
  }
}

/** Half a file is none, and fails; a full disk goes on with what it has, and withholds nothing. */
async function keep(cache, pathname, fresh) {
  try {
    await cache.put(pathname, fresh);
  } catch (cause) {
    if (cause.name !== 'QuotaExceededError') throw cause;
  }
}

addEventListener('notificationclick', (event) => {
  event.notification.close();
  const show = async () => {
    const [page] = await clients.matchAll({ type: 'window' });
    const where = `/${event.notification.data ?? ''}`;
    if (!page) return clients.openWindow(where);
    await page.focus();
    return page.navigate(where);
  };
  event.waitUntil(show());
});
