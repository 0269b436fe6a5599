/** The interface of a WebSocket that this library needs, and how its handshake carries the token. */

/**
 * How the token reaches the server.
 *
 * - `ticket`: asked for over HTTP before each attempt, so that a refusal can be read; falls back to `protocol` where the page's origin may not
 *   ask. It never falls back to `query`: a 404 may be a proxy's.
 * - `protocol`: as a subprotocol.
 * - `query`: as `?token=`, as the first clients did, for a server without tickets; the token is in the address, and so in logs.
 *
 * @typedef {'ticket' | 'protocol' | 'query'} Handshake
 */

/**
 * What is used of a WebSocket: the platform's class, and those of packages, have it.
 *
 * @typedef {object} Socket
 * @property {number} readyState
 * @property {((event: any) => any) | null} onmessage
 * @property {((event: any) => any) | null} onclose
 * @property {((event: any) => any) | null} onerror
 * @property {(text: string) => void} send
 * @property {(code?: number, reason?: string) => void} close
 */

/** @typedef {new (url: string, protocols?: string[]) => Socket} SocketClass */

export {};
