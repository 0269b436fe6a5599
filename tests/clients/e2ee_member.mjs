/**
 * A member of a group on a real server by the JavaScript package: it enters by an invite, repeats what it reads, and prints it.
 * With a path it keeps frames, and writes its audit file there when it reads `export`.
 */
import { writeFile } from 'node:fs/promises';
import { CipherClient, textOf } from '../../clients/e2ee/src/cipher-client.js';
import { memoryStore } from '../../clients/e2ee/src/index.js';
import { OrbitalClient } from '../../clients/javascript/src/all.js';
import { recordSockets } from '../support/record_frames.mjs';

recordSockets();
process.stdin.on('end', () => process.exit(0)).resume();

const [url, token, user, groupId, invite, file] = process.argv.slice(2);
const orbital = new OrbitalClient(url, { token, verify: true });
const client = await CipherClient.open(orbital, { store: memoryStore(), user, keepFrames: file !== undefined });
const group = await client.group(groupId, { invite });
process.stdout.write('ready\n');
for await (const item of group.messages()) {
  process.stdout.write(`read ${textOf(item)}\n`);
  if (file !== undefined && textOf(item) === 'export') {
    await writeFile(file, await client.audit(groupId));
    process.stdout.write('exported\n');
    continue;
  }
  await group.send(`Node received: ${textOf(item)}`, { answering: item });
}
