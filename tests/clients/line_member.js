/**
 * A member of a group on a real server that does what lines of JSON on standard input ask.
 *
 * `{"text": TEXT}` is a reply to send in the first thread that it has read; `{}` asks for what it has received: `items` and a list of
 * [status, text], in the order of the log. It prints `ready` once it is in the group.
 */
import { createInterface } from 'node:readline';
import { CipherClient, textOf } from '../../clients/e2ee/src/cipher-client.js';
import { OrbitalClient } from '../../clients/javascript/src/all.js';

/**
 * Be such a member until standard input ends.
 *
 * @param {object} parts A store, and a ratchet if it is not the package's own.
 */
export async function beMember(parts) {
  const { url, token, user, group: groupId, invite } = JSON.parse(process.argv[2]);
  const orbital = new OrbitalClient(url, { token, verify: true });
  const client = await CipherClient.open(orbital, { user, ...parts });
  const group = await client.group(groupId, { invite });
  process.stdout.write('ready\n');
  for await (const line of createInterface({ input: process.stdin })) {
    const { text } = JSON.parse(line);
    const items = await client.device.items(groupId);
    if (text === undefined) process.stdout.write(`items ${JSON.stringify(items.map((item) => [item.status, textOf(item)]))}\n`);
    else await group.reply(items.find(({ type }) => type === 'new_thread').data.thread_id, text);
  }
  process.exit(0);
}
