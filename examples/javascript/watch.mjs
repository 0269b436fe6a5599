/**
 * Print every event of a group, from its first one on, and then what comes.
 *
 *     npm install --no-save --omit=dev ./clients/javascript
 *     ORBITAL_TOKEN=… node examples/javascript/watch.mjs http://localhost:3000 GROUP
 *
 * It sees ciphertext. Stop it, start it again, kill the server meanwhile: no event is missing, and none is there twice.
 */
import { OrbitalClient } from '@orbital-relay/client';

const [url, groupId] = process.argv.slice(2);
const client = new OrbitalClient(url, { token: process.env.ORBITAL_TOKEN, verify: true });

client.on('state', ({ status, reason }) => console.error(status, reason ?? ''));
client.on('violation', (violation) => console.error('the server is not honest:', violation));
process.on('SIGINT', () => client.close());

for await (const item of client.subscribe(groupId, { since: 0 })) {
  if (item.type === 'caught_up') console.error('caught up at', item.data.seq);
  else if (item.type === 'reset') console.error('events', item.data.last + 1, 'to', item.data.seq, 'are gone');
  else console.log(item.seq, item.type, JSON.stringify(item.data));
}
