/** Explanations of probable causes of a failure. Loaded when there is something to explain. */
import { OrbitalError } from './errors.js';

/**
 * Emit the error for handshakes with the token as a subprotocol that fail in a row: a browser gives no reason for one.
 *
 * @param {{reconnectAttempts: number, emit: (name: any, ...values: any[]) => void}} client
 */
export function explain(client) {
  client.emit(
    'error',
    new OrbitalError(
      'NETWORK',
      `${client.reconnectAttempts} attempts to connect failed in a row without a reason. Either the server cannot be reached or refuses ` +
        "the token, or a proxy drops the header Sec-WebSocket-Protocol, which carries the token with handshake: 'protocol'. Let the proxy pass that " +
        "header on, or set handshake: 'ticket' (the server must allow the origin of the page) or 'query' (the token is then in the address)",
    ),
  );
}
