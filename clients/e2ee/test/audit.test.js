/** Audit files: what a device exports of what it received. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { concat, fromBase64, memoryStore, utf8, uuidBytes, verify } from '../src/index.js';
import { ADA, BEN, CLEO } from './people.js';
import { FakeRelay, enter, newFamily, say } from './relay.js';

const DORA = 'dddddddd-0000-4000-8000-00000000000d';
const linesOf = (file) =>
  new TextDecoder()
    .decode(file)
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));
const kinds = (lines, kind) => lines.filter(({ line }) => line === kind);

/** Three people whose devices keep frames, and some messages of each. */
async function kept() {
  const relay = new FakeRelay();
  const members = [];
  for (const user of [ADA, BEN, CLEO]) members.push(await relay.device(user, 1, { keepFrames: true }));
  const group = await newFamily(relay, members);
  for (const member of members) {
    await say(member, group, 'the canary sings');
    await relay.waitIdle(group);
  }
  return { relay, members, group };
}

test('[AUDJS1] An audit file has all frames as received, the authors’ heads and the records, signed by the device, and no plaintext.', async () => {
  const { relay, members, group } = await kept();
  const [, ben] = members;
  const file = await ben.audit(group);
  const lines = linesOf(file);
  const { log } = relay.groups.get(group);
  assert.deepEqual(
    kinds(lines, 'event').map(({ seq, hash, frame }) => [seq, hash, frame]),
    log.map(({ seq, hash, text }) => [seq, hash, text]),
  );
  // Two of the three messages are of others.
  assert.equal(kinds(lines, 'event').flatMap(({ heads }) => heads).length, 2);
  assert.deepEqual(
    kinds(lines, 'record').map(({ author }) => author),
    [ADA, BEN, CLEO],
  );
  assert.deepEqual(kinds(lines, 'warning'), []);
  const { user, device, after, hash, vouched, accepted, version } = lines[0];
  const knocks = log.filter(({ type }) => type === 'new_record').map(({ seq }) => seq);
  assert.deepEqual(
    { user, device, after, hash, vouched, accepted, version },
    { user: BEN, device: 1, after: 0, hash: '', vouched: knocks.slice(1), accepted: [], version: 1 },
  );
  const { line, identity, signature } = lines.at(-1);
  assert.equal(line, 'end');
  const body = file.subarray(0, file.length - utf8(`${JSON.stringify(lines.at(-1))}\n`).length);
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', body));
  const signed = concat(utf8('orbital/2 audit\0'), uuidBytes(group), digest);
  assert.deepEqual(fromBase64(identity), await ben.identity());
  assert.ok(await verify(fromBase64(identity), signed, fromBase64(signature)));
  assert.ok(!Buffer.from(file).includes('canary'));
});

test('[AUDJS2] A device exports the frames that it stored without a gap; a device that stored none reports that.', async () => {
  const { relay, members, group } = await kept();
  const later = await relay.device(DORA);
  await assert.rejects(later.audit(group), { code: 'not_found', message: /unknown here/ });
  await enter(relay, group, members[0], later);
  await relay.waitIdle(group);
  await assert.rejects(later.audit(group), { code: 'not_found', message: /keepFrames: true/ });
  relay.members.pop();
  const store = memoryStore(later.store.snapshot());
  const now = await relay.device(DORA, 1, { store, publish: false, keepFrames: true });
  await say(members[0], group, 'kept from here on');
  await relay.waitIdle(group);
  const { log } = relay.groups.get(group);
  const lines = linesOf(await now.audit(group));
  const seqs = kinds(lines, 'event').map(({ seq }) => seq);
  assert.ok(seqs[0] > 1);
  assert.deepEqual(
    seqs,
    log.slice(seqs[0] - 1).map(({ seq }) => seq),
  );
  assert.deepEqual([lines[0].after, lines[0].hash], [seqs[0] - 1, log[seqs[0] - 2].hash]);
});
