/**
 * The text of a notification: shows what a push message announces. The server sends sealed content; it is decrypted here with the group's key, which
 * this browser stores and no script can export. Without the key, or without the content, it says that something is new.
 */

const MOST_LETTERS = 200;

/** Read a key of the page's vault (`js/model/vault.js`). @param {string} name @returns {Promise<CryptoKey | undefined>} */
function storedKey(name) {
  return new Promise((resolve) => {
    const asked = indexedDB.open('orbital', 1);
    // Without a database the page was never here: none is made.
    asked.onupgradeneeded = () => asked.transaction.abort();
    asked.onerror = () => resolve(undefined);
    asked.onsuccess = () => {
      const database = asked.result;
      const found = database.transaction('keys').objectStore('keys').get(name);
      found.onsuccess = () => resolve(found.result);
      found.onerror = () => resolve(undefined);
      found.transaction.oncomplete = () => database.close();
    };
  });
}

/** Open a sealed text (`js/crypto/envelope.js` has the format). @param {CryptoKey | undefined} key @param {string} groupId @param {string} kind @param {string | undefined} sealed @returns {Promise<string | null>} */
async function openSealed(key, groupId, kind, sealed) {
  try {
    const bytes = Uint8Array.from(atob(sealed), (letter) => letter.charCodeAt(0));
    if (bytes[0] !== 1) return null;
    const additionalData = new TextEncoder().encode(`orbital/1\n${groupId}\n${kind}`);
    const plain = await crypto.subtle.decrypt({ name: 'AES-GCM', iv: bytes.subarray(1, 13), additionalData }, key, bytes.subarray(13));
    return new TextDecoder('utf-8', { fatal: true }).decode(plain);
  } catch {
    return null;
  }
}

/** @param {string | null} text */
const cut = (text) => (text && text.length > MOST_LETTERS ? `${text.slice(0, MOST_LETTERS)}…` : (text ?? ''));

/** What a notification says. @param {any} message @returns {Promise<{title: string, body: string}>} */
async function wordsOf({ type, user_id, group_id, thread_id, author_username: author, encrypted_title, data }) {
  const key = await storedKey(`${user_id}/group/${group_id}`);
  const sealedTitle = type === 'new_thread' ? data?.encrypted_title : encrypted_title;
  const title = await openSealed(key, group_id, 'thread-title', sealedTitle);
  if (title === null) return { title: 'Something new', body: '' };
  if (type === 'media_uploaded') return { title: `New photo in “${cut(title)}”`, body: '' };
  const kind = type === 'new_thread' ? 'thread-body' : `reply/${thread_id}`;
  const body = cut(await openSealed(key, group_id, kind, data?.encrypted_body)) || 'Something new';
  return { title: type === 'new_thread' ? `${author} started “${cut(title)}”` : `${author} in “${cut(title)}”`, body };
}

/** @param {any} message */
async function called(message) {
  const tabs = await clients.matchAll({ type: 'window', includeUncontrolled: true });
  const visible = tabs.filter(({ visibilityState }) => visibilityState === 'visible');
  // Somebody is looking: the page shows it, as soon as its connection is back.
  for (const tab of visible) tab.postMessage('called');
  if (visible.length) return;
  const { group_id, thread_id, seq } = message ?? {};
  const tag = thread_id ?? group_id ?? 'orbital';
  const [had] = await registration.getNotifications({ tag });
  // A push service may repeat a message.
  if (had && had.data?.seq >= seq) return;
  const more = had ? (had.data?.more ?? 0) + 1 : 0;
  const { title, body } = group_id ? await wordsOf(message) : { title: 'Something new', body: '' };
  const where = group_id ? `#/g/${group_id}${thread_id ? `/t/${thread_id}` : ''}` : '';
  await registration.showNotification(title, {
    body: more ? `${body} (and ${more} more)` : body,
    tag,
    renotify: true,
    icon: 'icon-192.png',
    data: { where, seq, more },
  });
}

addEventListener('push', (event) => {
  const message = () => {
    try {
      return event.data?.json();
    } catch {
      return undefined;
    }
  };
  event.waitUntil(called(message()));
});
