/** Notifications of the browser. */

/**
 * Show a notification, if it is allowed. Android has them only through the service worker.
 *
 * @param {string} title
 * @param {string} body
 * @param {string} where The address fragment that it opens.
 * @param {string} tag A notification replaces an earlier one with the same tag.
 */
export async function notify(title, body, where, tag) {
  if (!('Notification' in globalThis) || Notification.permission !== 'granted') return;
  const options = { body, tag, renotify: true, icon: 'icon-192.png', data: { where } };
  const worker = await navigator.serviceWorker?.getRegistration();
  if (worker) return worker.showNotification(title, options);
  const shown = new Notification(title, options);
  shown.onclick = () => {
    window.focus();
    location.hash = where;
  };
}
