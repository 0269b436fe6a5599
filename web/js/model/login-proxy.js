/** Recognizes a proxy in front of the server that asks for a login of its own (Authelia, oauth2-proxy, Cloudflare Access, a Wi-Fi's portal). */

/**
 * A redirect, a page in place of an answer, or a refusal without the server's own error body (RFC 6585 §6: 511 is a portal's).
 * Any other answer of a proxy, such as 502, means that the server is unreachable.
 */
const ASKS = /^HTTP_(REDIRECT|200|30\d|401|403|407|511)$/;

/** @param {unknown} error Of a request to the server. @returns {boolean} Whether a login in front of the server probably answered it. */
export const isLoginProxy = (error) => ASKS.test(/** @type {any} */ (error)?.code);

/** Query of the one navigation that the service worker leaves to the network, so that the proxy can show its login. */
export const LOGIN_QUERY = 'login';
const RETURN = 'orbital-return';

/**
 * Prepare the navigation to the login. The fragment is kept for this tab: no server sees it, so no proxy can return to it.
 *
 * @param {{pathname: string, search: string, hash: string}} here
 * @param {import('./shelf.js').Storage} tab
 * @returns {string} The address to open.
 */
export function loginAddress({ pathname, search, hash }, tab) {
  try {
    tab.setItem(RETURN, hash);
  } catch {
    // Without room the page opens at its beginning.
  }
  const query = new URLSearchParams(search);
  query.set(LOGIN_QUERY, '');
  return `${pathname}?${query}`;
}

/**
 * After the login, find out where the member was.
 *
 * @param {{pathname: string, search: string, hash: string}} here
 * @param {import('./shelf.js').Storage} tab
 * @returns {string | undefined} The address to open instead; undefined when this one is right.
 */
export function addressAfterLogin({ pathname, search, hash }, tab) {
  const query = new URLSearchParams(search);
  const kept = tab.getItem(RETURN);
  if (kept !== null) tab.removeItem(RETURN);
  if (!query.has(LOGIN_QUERY) && (!kept || hash)) return undefined;
  query.delete(LOGIN_QUERY);
  return `${pathname}${query.size ? `?${query}` : ''}${hash || kept || ''}`;
}
