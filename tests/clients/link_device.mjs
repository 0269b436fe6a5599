/**
 * A device of a person on a real server by the JavaScript package, linked with a Python device of the same person.
 *
 * `newer` shows a code, accepts what it is handed, and repeats what it reads. `older` founds the group, admits the device of the code that is its
 * last argument, and repeats what it reads. It prints a line for each thing that happens.
 */
import { CipherClient, textOf } from '../../clients/e2ee/src/cipher-client.js';
import { memoryStore } from '../../clients/e2ee/src/index.js';
import { DeviceLink, sdkMailboxes } from '../../clients/e2ee/src/linking.js';
import { OrbitalClient } from '../../clients/javascript/src/all.js';
import { recordSockets } from '../support/record_frames.mjs';

recordSockets();
process.stdin.on('end', () => process.exit(0)).resume();

const print = (...words) => process.stdout.write(`${words.join(' ')}\n`);
const [role, url, token, user, groupId, code] = process.argv.slice(2);
const orbital = new OrbitalClient(url, { token, verify: true });
const client = await CipherClient.open(orbital, { store: memoryStore(), user });
const link = new DeviceLink(client.device, sdkMailboxes(orbital));
const devices = async () => (await client.device.roster(groupId)).devices.length;

if (role === 'newer') {
  print('code', (await link.offer()).code);
  print('number', (await link.receive()).number);
  await link.accept();
}
if (role === 'older') await client.found(groupId);
const group = await client.group(groupId);
if (role === 'older') {
  while ((await devices()) < 1) await new Promise((resolve) => setTimeout(resolve, 100));
  print('number', (await link.admit(code)).number);
}
while ((await devices()) < 2) await new Promise((resolve) => setTimeout(resolve, 100));
print('both');
for await (const item of group.messages()) {
  print('read', textOf(item));
  await group.send(`Node received: ${textOf(item)}`, { answering: item });
}
