/**
 * A bot: it answers every new thread of a group, and shows that it types meanwhile.
 *
 *     npm install --no-save --omit=dev ./clients/javascript
 *     ORBITAL_TOKEN=… node examples/javascript/echo.mjs http://localhost:3000 GROUP [STORE]
 *
 * Where it is in the group's log it keeps in a file: what was opened while it was down it answers at its next start. The first start begins with
 * what comes from then on; `since: 0` would answer everything that is kept.
 *
 * It sees ciphertext and sends it back as it came; a bot of your own would decrypt, think and encrypt.
 */
import { OrbitalClient } from '@orbital-relay/client';
import { fileStore } from '@orbital-relay/client/file-store';

const [url, groupId, file = `echo-${groupId}.json`] = process.argv.slice(2);
const client = new OrbitalClient(url, { token: process.env.ORBITAL_TOKEN, store: await fileStore(file) });
/** Prints a line; what a terminal would act on in texts of others is escaped. */
const say = (...words) =>
  console.log(words.join(' ').replace(/[\p{C}\p{Zl}\p{Zp}]/gu, (char) => `\\u{${char.codePointAt(0).toString(16)}}`));
let self;
client.on('auth_success', ({ user_id }) => (self = user_id));

client.subscribe(groupId, {
  async onEvent({ type, data }) {
    if (type !== 'new_thread' || data.author_id === self) return;
    client.typing(data.thread_id);
    // The same key for the same thread: a restart in the midst of this does not answer twice.
    await client.send(
      groupId,
      { type: 'reply', thread_id: data.thread_id, encrypted_body: data.encrypted_body },
      { key: `echo-${data.thread_id}` },
    );
    client.typing(data.thread_id, false);
    say('answered', data.thread_id);
  },
  onReset: ({ data }) => say('missed permanently: the events after', data.last),
  onCaughtUp: () => say('ready'),
  onEnd: (error) => {
    say(error?.message ?? 'closed');
    client.close();
  },
});
process.on('SIGINT', () => client.close());
