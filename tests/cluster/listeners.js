/**
 * Clients of the JavaScript SDK, which read from standard input what to subscribe to, and write to standard output what they receive.
 *
 * First line in: {"url", "clients": [{"token", "groups": [group_id, …]}, …]}; a line "stop" ends all.
 * Lines out: {"client", "group_id", "seq", "prev"} for each event, {"client", "wrong"} for what must not be.
 */
import { createInterface } from 'node:readline';
import { OrbitalClient, memoryStore } from '../../clients/javascript/src/index.js';
import { recordSockets } from '../support/record_frames.mjs';

recordSockets();

const BACKOFF = { steps_ms: [100, 200, 400, 800], jitter_ms: 300, attempts: 1000, window_ms: 1000 };
const report = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

const { url, clients } = JSON.parse((await lines.next()).value);
const open = clients.map(({ token, groups }, client) => {
  const made = new OrbitalClient(url, { token, store: memoryStore(), verify: true, backoff: BACKOFF });
  made.on('error', () => {}); // a server that is away is no news here
  made.on('violation', (violation) => report({ client, wrong: violation }));
  made.on('reset', (reset) => report({ client, wrong: reset }));
  for (const group_id of groups) {
    made.subscribe(group_id, {
      since: 0,
      onEvent: ({ seq, prev }) => report({ client, group_id, seq, prev }),
      onEnd: (error) => error && report({ client, wrong: { code: error.code, message: error.message } }),
    });
  }
  return made;
});

for await (const line of { [Symbol.asyncIterator]: () => lines }) if (line === 'stop') break;
for (const client of open) client.close();
process.exit(0);
