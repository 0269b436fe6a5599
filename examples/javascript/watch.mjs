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

/** Prints a line; what a terminal would act on in texts of others is escaped. */
const say = (print, ...words) =>
  print(words.join(' ').replace(/[\p{C}\p{Zl}\p{Zp}]/gu, (char) => `\\u{${char.codePointAt(0).toString(16)}}`));
const log = (...words) => say(console.log, ...words);
const note = (...words) => say(console.error, ...words);

client.on('state', ({ status, reason }) => note(status, reason ?? ''));
client.on('violation', (violation) => note('the server is not honest:', JSON.stringify(violation)));
process.on('SIGINT', () => client.close());

for await (const item of client.subscribe(groupId, { since: 0 })) {
  if (item.type === 'caught_up') note('caught up at', item.data.seq);
  else if (item.type === 'reset') note('events', item.data.last + 1, 'to', item.data.seq, 'are gone');
  else log(item.seq, item.type, JSON.stringify(item.data));
}
