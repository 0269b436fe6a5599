/** How the token reaches the server in a handshake. */
import { OrbitalError, wrap } from './errors.js';

/** @import {Http} from './http.js' */
/** @import {Handshake} from './socket.js' */

/**
 * Make the address of the next attempt, and the subprotocols to offer.
 *
 * @param {Http} http
 * @param {Handshake | undefined} way `ticket` when left out.
 * @param {string | null | undefined} token
 * @param {AbortSignal} signal
 * @returns {Promise<[address: string, protocols: string[], token: string | null | undefined]>} With the token that is used.
 * @throws {OrbitalError} What the server answered to the request for a ticket.
 */
export async function locate(http, way = 'ticket', token, signal) {
  const address = `${http.url.replace(/^http/, 'ws')}/ws`;
  if (way === 'ticket') {
    try {
      const { ticket } = await http.wsTicket(signal);
      // A refused token may have been renewed by the request.
      return [`${address}?ticket=${encodeURIComponent(ticket)}`, [], await http.credentials.get()];
    } catch (cause) {
      const { code, status } = wrap('NETWORK', cause);
      const origin = globalThis.location?.origin;
      if (code === 'NETWORK' && origin && origin !== http.url) way = 'protocol';
      else if (status === 404)
        throw new OrbitalError('NETWORK', "the server has no tickets; set handshake: 'query' or 'protocol'", { cause });
      else throw cause;
    }
  }
  if (way === 'query') return [`${address}?token=${encodeURIComponent(token ?? '')}`, [], token];
  return [address, ['orbital.v1', `bearer.${token}`], token];
}
