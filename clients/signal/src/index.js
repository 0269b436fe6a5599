// SPDX-License-Identifier: AGPL-3.0-only
/** @orbital-relay/signal: libsignal and SQLCipher behind the ports of @orbital-relay/e2ee. */
export { signalRatchet } from './ratchet.js';
export { signalStore } from './store.js';
