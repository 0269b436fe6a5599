/** The class of the published document, cut out of it at run time, to show where ours does better. */
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const path = process.env.ORBITAL_PUBLISHED_DOC ?? fileURLToPath(new URL('../../../../shared/published-realtime.md', import.meta.url));

/** Why the comparison cannot be made, for `skip`; false when it can. */
export const missing = existsSync(path) ? false : `the published document is not at ${path}; set ORBITAL_PUBLISHED_DOC`;
if (missing && process.env.ORBITAL_TESTS_COMPLETE === '1') throw new Error(missing);

/**
 * @param {object} [world] What the class sees instead of the platform's.
 * @returns {new (apiUrl: string, token: string) => any}
 */
export function publishedClass(world = {}) {
  const found = /```javascript\n(class OrbitalWebSocketManager \{[\s\S]*?\n\})\n/.exec(readFileSync(path, 'utf8'));
  if (!found) throw new Error('the published document has no class OrbitalWebSocketManager');
  const { WebSocket = globalThis.WebSocket, console = { log() {}, warn() {}, error() {} }, setTimeout = globalThis.setTimeout } = world;
  // The browser's class has its states as constants, too.
  class Socket extends WebSocket {
    static OPEN = 1;
  }
  return new Function('WebSocket', 'console', 'setTimeout', `${found[1]}; return OrbitalWebSocketManager`)(Socket, console, setTimeout);
}
