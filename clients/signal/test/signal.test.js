// SPDX-License-Identifier: AGPL-3.0-only
/** libsignal behind the ports: in one group with clients that do not have it, and beside our own code, in both directions. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { PrivateKey, PublicKey, SenderKeyDistributionMessage } from '@signalapp/libsignal-client';
import {
  E2eeError,
  Unit,
  fromBase64,
  hpkeRatchet,
  memoryStore,
  readEnvelope,
  readInvite,
  readSenderKeyMessage,
  toHex,
  verify,
} from '@orbital-relay/e2ee';
import { FakeRelay, codes, enter, newFamily, say, texts } from '../../e2ee/test/relay.js';
import { signalRatchet, signalStore } from '../src/index.js';

const ADA = 'aaaaaaaa-0000-4000-8000-00000000000a';
const BEN = 'bbbbbbbb-0000-4000-8000-00000000000b';
const CLEO = 'cccccccc-0000-4000-8000-00000000000c';
const DORA = 'dddddddd-0000-4000-8000-00000000000d';
const ORDER = 2n ** 252n + 27742317777372353535851937790883648493n;
const random = (length) => crypto.getRandomValues(new Uint8Array(length));
const utf8 = (text) => new TextEncoder().encode(text);
const suites = (relay, group) =>
  relay.groups
    .get(group)
    .log.filter(({ type }) => type === 'new_keys')
    .flatMap(({ data }) => readEnvelope(fromBase64(data.encrypted_envelope)).keys?.deliveries.map(({ suite }) => suite) ?? []);

test('[SGL1] Two clients with libsignal and two without read each other in one group; sessions are used where both have libsignal.', async () => {
  const relay = new FakeRelay();
  const members = [];
  for (const [user, signal] of [
    [ADA, true],
    [BEN, false],
    [CLEO, true],
    [DORA, false],
  ]) {
    const store = memoryStore();
    members.push(await relay.device(user, 1, { store, ratchet: signal ? signalRatchet() : hpkeRatchet(store) }));
  }
  const group = await newFamily(relay, members);
  const said = [];
  for (let round = 0; round < 3; round++)
    for (const [at, member] of members.entries()) {
      said.push(`${round} by ${at}`);
      await say(member, group, said.at(-1));
      await relay.waitIdle(group);
      if (round === 1) await member.renewKeys(group);
    }
  for (const member of members) {
    assert.deepEqual(await texts(member, group), said);
    assert.deepEqual(await codes(member, group), []);
  }
  assert.deepEqual(
    [...new Set(suites(relay, group))].sort((a, b) => a - b),
    [1, 2, 16],
  );
});

test('[SGL2] A member with libsignal repairs, rotates on removal, holds a reinstalled device and detects an old copy as any other.', async () => {
  const relay = new FakeRelay();
  const members = [];
  for (const user of [ADA, BEN, CLEO]) members.push(await relay.device(user, 1, { ratchet: signalRatchet() }));
  const [one, two, three] = members;
  const group = await newFamily(relay, members);
  await say(one, group, 'all');
  await relay.waitIdle(group);
  await one.revoke(group, CLEO);
  relay.leave(group, CLEO);
  await relay.waitIdle(group);
  await say(one, group, 'without Cleo');
  await relay.waitIdle(group);
  for (const event of relay.groups.get(group).log.slice((await three.group(group)).position.seq)) await three.receive(event);
  assert.deepEqual(await texts(three, group), ['all', '[waiting]']);
  assert.deepEqual(await texts(two, group), ['all', 'without Cleo']);

  const old = one.store.snapshot();
  await say(one, group, 'newer');
  await relay.waitIdle(group);
  const restored = await relay.device(ADA, 1, { store: memoryStore(old), ratchet: signalRatchet(), publish: false });
  relay.members = [restored, two];
  await relay.deliver(restored, group);
  assert.deepEqual(await codes(restored, group), ['old_copy']);
  await say(restored, group, 'after the old copy');
  await relay.waitIdle(group);
  assert.deepEqual((await texts(two, group)).slice(-2), ['newer', 'after the old copy']);

  relay.members = [restored];
  const again = await relay.device(BEN, 1, { ratchet: signalRatchet() });
  await again.join(group, readInvite((await restored.invite(group)).text), { inviter: ADA });
  await relay.waitIdle(group);
  await say(again, group, 'held');
  await relay.waitIdle(group);
  assert.equal((await texts(restored, group)).at(-1), '[waiting]');
  const held = (await restored.roster(group)).warnings.find(({ code }) => code === 'held_device');
  await restored.accept(group, BEN, 1, held.identity);
  assert.equal((await texts(restored, group)).at(-1), 'held');
  await say(restored, group, 'welcome back');
  await relay.waitIdle(group);
  assert.equal((await texts(again, group)).at(-1), 'welcome back');
});

test('[SGL3] Fuzzed: chains of libsignal and of our own code yield the same messages in any order, in both directions.', async () => {
  const [signal, own] = [signalRatchet(), hpkeRatchet({ keys: 'bytes' })];
  const me = { user: ADA, device: 3 };
  for (let chain = 0; chain < 20; chain++)
    for (const [from, to] of [
      [signal, own],
      [own, signal],
    ]) {
      const [sender, reader] = [new Unit(memoryStore()), new Unit(memoryStore())];
      const distribution = random(16);
      await from.newChain(sender, me, distribution);
      await to.learn(reader, me, await from.skdm(sender, me, distribution));
      const sent = [];
      for (let round = 0; round < 12; round++) {
        const plain = random((chain * 13 + round * 37) % 400);
        sent.push({ plain, bytes: await from.encrypt(sender, me, distribution, plain) });
      }
      const order = sent.map((_, at) => (at * 7 + chain) % sent.length);
      for (const at of order) {
        const { plain, bytes } = sent[at];
        assert.deepEqual(new Uint8Array(await to.decrypt(reader, me, readSenderKeyMessage(bytes), bytes)), plain);
        await assert.rejects(to.decrypt(reader, me, readSenderKeyMessage(bytes), bytes), { code: 'repeated' });
      }
      const late = new Unit(memoryStore());
      await to.learn(late, me, await from.skdm(sender, me, distribution));
      await assert.rejects(to.decrypt(late, me, readSenderKeyMessage(sent[0].bytes), sent[0].bytes), { code: 'repeated' });
    }
});

test('[SGL4] Each implementation verifies the other’s signatures; S + ℓ, which libsignal accepts, is refused by both ratchets.', async () => {
  const signer = await hpkeRatchet({ keys: 'bytes' }).identity(new Unit(memoryStore()));
  let accepted = 0;
  for (let round = 0; round < 30; round++) {
    const message = random(round * 5);
    const key = PrivateKey.generate();
    assert.equal(await verify(key.getPublicKey().serialize(), message, key.sign(message)), true);
    const signature = await signer.sign(message);
    assert.equal(PublicKey.deserialize(signer.publicKey).verify(message, signature), true);
    const forged = raised(signature);
    accepted += Number(PublicKey.deserialize(signer.publicKey).verify(message, forged));
    assert.equal(await verify(signer.publicKey, message, forged), false);
  }
  assert.equal(accepted, 30, 'libsignal does not look at S; should it begin to, this test says so');
  const me = { user: ADA, device: 1 };
  for (const [from, to] of [
    [hpkeRatchet({ keys: 'bytes' }), signalRatchet()],
    [signalRatchet(), hpkeRatchet({ keys: 'bytes' })],
  ]) {
    const [sender, reader] = [new Unit(memoryStore()), new Unit(memoryStore())];
    const distribution = random(16);
    await from.newChain(sender, me, distribution);
    await to.learn(reader, me, await from.skdm(sender, me, distribution));
    const bytes = await from.encrypt(sender, me, distribution, utf8('x'));
    bytes.set(raised(bytes.subarray(bytes.length - 64)), bytes.length - 64);
    await assert.rejects(to.decrypt(reader, me, readSenderKeyMessage(bytes), bytes), { code: 'bad_signature' });
  }
});

function raised(signature) {
  const forged = new Uint8Array(signature);
  const sign = forged[63] & 0x80;
  let s = forged.subarray(32).reduceRight((sum, byte, at) => (sum << 8n) | BigInt(at === 31 ? byte & 0x7f : byte), 0n) + ORDER;
  for (let at = 32; at < 64; at++, s >>= 8n) forged[at] = Number(s & 0xffn);
  forged[63] |= sign;
  return forged;
}

test('[SGL5] A swapped identity, an unsigned pre-key and a bundle without keys are refused before libsignal creates a session.', async () => {
  const ratchet = signalRatchet();
  const relay = new FakeRelay();
  await relay.device(BEN, 1, { ratchet: signalRatchet() });
  const [bundle] = await relay.port(ADA, 1).claim('g', [{ user: BEN, device: 1, suite: 1 }]);
  const way = {
    group: '0a0b0c0d-0000-4000-8000-000000000001',
    from: { user: ADA, device: 1 },
    to: { user: BEN, device: 1 },
    identity: bundle.identity,
  };
  const unit = new Unit(memoryStore());
  const other = PrivateKey.generate().getPublicKey().serialize();
  await assert.rejects(ratchet.seal(unit, { ...way, identity: other }, bundle, utf8('x')), { code: 'bad_key' });
  await assert.rejects(
    ratchet.seal(unit, way, { ...bundle, kyberPreKey: { ...bundle.kyberPreKey, signature: new Uint8Array(64) } }, utf8('x')),
    { code: 'bad_signature' },
  );
  await assert.rejects(ratchet.seal(unit, way, { ...bundle, signedPreKey: undefined }, utf8('x')), { code: 'not_found' });
  await assert.rejects(ratchet.open(unit, way, { suite: 2, sealed: random(80) }), E2eeError);
  await assert.rejects(ratchet.open(unit, way, { suite: 9, sealed: random(80) }), { code: 'unsupported' });
  assert.equal((await ratchet.seal(unit, way, bundle, utf8('x'))).suite, 1);
});

test('[SGL6] A SQLCipher file by libsignal’s driver has no plaintext, opens with its key only, and can be reopened by a new process.', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'orbital-signal-'));
  try {
    const [path, key] = [join(folder, 'store.db'), random(32)];
    const relay = new FakeRelay();
    const ada = await relay.device(ADA, 1, { store: signalStore(path, key), ratchet: signalRatchet() });
    const ben = await relay.device(BEN, 1, { ratchet: signalRatchet() });
    const group = await newFamily(relay, [ada, ben]);
    await say(ada, group, 'the canary sings');
    await relay.waitIdle(group);
    assert.throws(() => signalStore(path, key), { code: 'locked' });
    await ada.store.close();
    const files = Buffer.concat([readFileSync(path)]);
    for (const secret of ['canary', 'SQLite format', 'sender_keys', ADA]) assert.equal(files.includes(secret), false, secret);
    assert.throws(() => signalStore(path, random(32)), { code: 'locked' });
    const again = await relay.device(ADA, 1, { store: signalStore(path, key), ratchet: signalRatchet(), publish: false });
    relay.members = [again, ben];
    await say(again, group, 'again');
    await relay.waitIdle(group);
    assert.deepEqual(await texts(again, group), ['the canary sings', 'again']);
    assert.deepEqual(await texts(ben, group), ['the canary sings', 'again']);
    await again.store.close();
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('[SGL7] An SKDM of low order is refused before it is passed to libsignal.', async () => {
  const key = new Uint8Array(33);
  key[0] = 5;
  const forged = SenderKeyDistributionMessage._new(
    3,
    '0a0b0c0d-0000-4000-8000-000000000009',
    1,
    0,
    random(32),
    PublicKey.deserialize(PrivateKey.generate().getPublicKey().serialize()),
  ).serialize();
  forged.set(key, forged.length - 33);
  for (const ratchet of [signalRatchet(), hpkeRatchet({ keys: 'bytes' })])
    await assert.rejects(ratchet.learn(new Unit(memoryStore()), { user: ADA, device: 1 }, forged), { code: 'bad_key' });
  assert.equal(toHex(forged.subarray(forged.length - 33)).startsWith('0500'), true);
});

test('[SGL8] A late device with libsignal receives the chains over new sessions, and sends its own.', async () => {
  const relay = new FakeRelay();
  const ada = await relay.device(ADA, 1, { ratchet: signalRatchet() });
  const ben = await relay.device(BEN, 1, { ratchet: signalRatchet() });
  const group = await newFamily(relay, [ada, ben]);
  await say(ada, group, 'one');
  await relay.waitIdle(group);
  const dora = await relay.device(DORA, 1, { ratchet: signalRatchet() });
  await enter(relay, group, ada, dora);
  await relay.waitIdle(group);
  await say(dora, group, 'two');
  await relay.waitIdle(group);
  for (const member of [ada, ben]) assert.deepEqual(await texts(member, group), ['one', 'two']);
});

test('[SGL9] A broken session is replaced: the device sends a request, and the answer is a new pre-key message.', async () => {
  const relay = new FakeRelay();
  const ada = await relay.device(ADA, 1, { ratchet: signalRatchet() });
  const ben = await relay.device(BEN, 1, { ratchet: signalRatchet() });
  const group = await newFamily(relay, [ada, ben]);
  await say(ada, group, 'one');
  await relay.waitIdle(group);
  await say(ben, group, 'two');
  await relay.waitIdle(group);
  await ben.store.commit(
    (await ben.store.list('sessions', '')).map(([key]) => ({ table: 'sessions', key })),
    true,
  );
  await ada.renewKeys(group);
  await say(ada, group, 'three');
  await relay.waitIdle(group);
  assert.deepEqual(await texts(ben, group), ['one', 'two', '[waiting]']);
  ben.caughtUp(group);
  await ben.tick(group);
  relay.now += 3_000;
  await ben.tick(group);
  await relay.waitIdle(group);
  assert.equal(suites(relay, group).at(-1), 1);
  assert.deepEqual(await texts(ben, group), ['one', 'two', 'three']);
});
