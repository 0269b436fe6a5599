/**
 * A member of a group on a real server by the JavaScript package: it enters by an invite, repeats what it reads, and prints it. It repeats an
 * annotation on the same target, and prints what all come to.
 * With a path it keeps frames, and writes its audit file there when it reads `export`.
 */
import { writeFile } from 'node:fs/promises';
import { annotationOf } from '../../clients/e2ee/src/annotation-kinds.js';
import { CipherClient, textOf } from '../../clients/e2ee/src/cipher-client.js';
import { memoryStore } from '../../clients/e2ee/src/index.js';
import { OrbitalClient } from '../../clients/javascript/src/all.js';
import { until } from '../../clients/javascript/test/fake.js';
import { recordSockets } from '../support/record_frames.mjs';

recordSockets();
process.stdin.on('end', () => process.exit(0)).resume();

const [url, token, user, groupId, invite, file] = process.argv.slice(2);
const orbital = new OrbitalClient(url, { token, verify: true });
const client = await CipherClient.open(orbital, { store: memoryStore(), user, keepFrames: file !== undefined });
const group = await client.group(groupId, { invite });
process.stdout.write('ready\n');
for await (const item of group.messages()) {
  const annotation = annotationOf(item);
  if (annotation) {
    await group.annotate(item.data.thread_id, item.data.target_id, annotation);
    await until(async () => !(await client.device.pending(groupId)), 'the annotation has come back', 60_000);
    const { reactions, polls, pin } = (await group.annotated()).get(item.data.target_id);
    const votes = [...polls.values()].map((poll) => [...poll.votes]);
    process.stdout.write(`annotated ${JSON.stringify({ pin, reactions: [...reactions], votes })}\n`);
    continue;
  }
  process.stdout.write(`read ${textOf(item)}\n`);
  if (file !== undefined && textOf(item) === 'export') {
    await writeFile(file, await client.audit(groupId));
    process.stdout.write('exported\n');
    continue;
  }
  await group.send(`Node received: ${textOf(item)}`, { answering: item });
}
