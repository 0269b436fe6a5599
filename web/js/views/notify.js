/** Notifications of the browser. */

/**
 * Show a notification, if it is allowed. Android has them only through the service worker.
 *
 * @param {string} title
 * @param {string} body
 * @param {string} where The part of the page that it opens.
 * @param {string} tag One at a time of each; a later one replaces it.
 */
export async function notify(title, body, where, tag) {
  if (!('Notification' in globalThis) || Notification.permission !== 'granted') return;
  const options = { body, tag, renotify: true, icon: '/icon-192.png', data: where };
  const worker = await navigator.serviceWorker?.getRegistration();
  if (worker) return worker.showNotification(title, options);
  const shown = new Notification(title, options);
  shown.onclick = () => {
    window.focus();
    location.hash = where;
  };
}
