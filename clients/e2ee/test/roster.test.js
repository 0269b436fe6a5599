/** Records and the roster that they fold into. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { concat, random, toHex } from '../src/bytes.js';
import { encode } from '../src/formats/protobuf.js';
import { nextSecret, readRecord, writeRecord } from '../src/formats/records.js';
import { RECORD } from '../src/formats/schemas.js';
import { founderHash } from '../src/invite.js';
import { acceptedKey, allSecrets, fold } from '../src/roster.js';
import { ADA, BEN, CLEO, GROUP, OTHER_GROUP, bytes, newSigner } from './people.js';

/** A group of Ada's with an invite, and a log that records are appended to. */
async function newGroup() {
  const ada = await newSigner();
  const secret = random(16);
  const log = [];
  const facts = { founder: await founderHash(ada.publicKey), secrets: new Map([[0, secret]]), accepted: new Set() };
  const post = async (author, body, proof, group = GROUP) =>
    log.push({ seq: log.length + 2, author, bytes: await writeRecord(group, body, proof) });
  await post(ADA, { kind: 'found', user: ADA, device: 1, identity: ada.publicKey, suites: 2, history: 0 }, ada);
  return { ada, secret, log, facts, post, fold: (more = {}) => fold(GROUP, log, { ...facts, ...more }) };
}
const knock = (user, device, { publicKey }, secretNumber = 0) => ({
  kind: 'knock',
  user,
  device,
  identity: publicKey,
  suites: 2,
  secretNumber,
});
const link = (user, device, { publicKey }, byDevice) => ({ kind: 'link', user, device, identity: publicKey, suites: 3, byDevice });
const names = (roster) => roster.devices.map(({ user, device }) => `${user[0]}${device}`).join(' ');
const codes = (roster) => roster.warnings.map(({ code }) => code);

test('[ROS1] Records have the sizes of the contract and round-trip.', async () => {
  const { ada, secret, log } = await newGroup();
  const sizes = {
    found: [{ kind: 'found', user: ADA, device: 1, identity: ada.publicKey, suites: 2, history: 0 }, ada, 125],
    knock: [knock(BEN, 1, ada), secret, 93],
    link: [link(ADA, 2, ada, 1), ada, 127],
    revoke: [{ kind: 'revoke', user: BEN, device: 0, byUser: ADA, byDevice: 1 }, ada, 106],
    secret: [{ kind: 'secret', number: 1, byUser: ADA, byDevice: 1, earlier: bytes(32, 1) }, ada, 124],
    policy: [{ kind: 'policy', history: 2, rotationDays: 3, byDevice: 1 }, ada, 74],
  };
  for (const [kind, [body, proof, size]] of Object.entries(sizes)) {
    const written = await writeRecord(GROUP, body, proof);
    assert.equal(written.length, size, kind);
    assert.deepEqual(readRecord(GROUP, written).body, body);
  }
  assert.equal(log[0].bytes.length, 125);
  const two = encode(RECORD, { found: bytes(1, 1), knock: bytes(1, 1), proof: bytes(64, 1) });
  assert.throws(() => readRecord(GROUP, two), { code: 'malformed' });
  assert.throws(() => readRecord(GROUP, encode(RECORD, { proof: bytes(64, 1) })), { code: 'unsupported' });
  const cut = await writeRecord(GROUP, knock(BEN, 1, ada), bytes(16, 1));
  assert.throws(() => readRecord(GROUP, concat(cut.subarray(0, 59), Uint8Array.of(0x7a, 1, 0))), { code: 'malformed' });
});

test('[ROS2] The roster has the invite’s founder, a knock with the secret, and a link by an older device.', async () => {
  const group = await newGroup();
  const [ben, tablet] = [await newSigner(), await newSigner()];
  await group.post(BEN, knock(BEN, 1, ben), group.secret);
  await group.post(BEN, link(BEN, 2, tablet, 1), ben);
  const roster = await group.fold();
  assert.equal(names(roster), 'a1 b1 b2');
  assert.deepEqual(
    roster.devices.map(({ since, by }) => [since, by]),
    [
      [2, 'found'],
      [3, 'knock'],
      [4, 'link'],
    ],
  );
  assert.deepEqual(codes(roster), []);
  assert.equal(roster.founder, ADA);
});

test('[ROS3] Another founder, a ghost without the secret, a swapped key, a forged device or a record of another group is refused.', async () => {
  const group = await newGroup();
  const [ben, mallory] = [await newSigner(), await newSigner()];
  await group.post(BEN, knock(BEN, 1, ben), group.secret);
  await group.post(CLEO, { kind: 'found', user: CLEO, device: 1, identity: mallory.publicKey, suites: 2, history: 0 }, mallory);
  await group.post(ADA, { kind: 'found', user: ADA, device: 9, identity: group.ada.publicKey, suites: 2, history: 2 }, group.ada);
  await group.post(CLEO, knock(CLEO, 1, mallory), random(16));
  await group.post(BEN, link(BEN, 2, mallory, 1), mallory);
  await group.post(CLEO, link(CLEO, 1, mallory, 1), mallory);
  await group.post(CLEO, knock(CLEO, 1, mallory), group.secret, OTHER_GROUP);
  const swapped = await writeRecord(GROUP, knock(CLEO, 1, ben), group.secret);
  const at = toHex(swapped).indexOf(toHex(ben.publicKey)) / 2;
  swapped.set(mallory.publicKey, at);
  group.log.push({ seq: 20, author: CLEO, bytes: swapped });
  group.log.push({ seq: 21, author: CLEO, bytes: random(40) });
  await group.post(CLEO, knock(CLEO, 1, { publicKey: concat(Uint8Array.of(5), bytes(32, 0)) }), group.secret);
  const roster = await group.fold();
  assert.equal(names(roster), 'a1 b1');
  assert.deepEqual(codes(roster), [
    'other_founder',
    'other_founder',
    'not_proven',
    'not_proven',
    'not_proven',
    'not_proven',
    'not_proven',
    'unreadable_record',
    'not_proven',
  ]);
});

test('[ROS4] A record is refused if its author differs from the author that the server states.', async () => {
  const group = await newGroup();
  const ben = await newSigner();
  await group.post(CLEO, knock(BEN, 1, ben), group.secret);
  await group.post(CLEO, link(ADA, 2, ben, 1), group.ada);
  assert.deepEqual(codes(await group.fold()), ['wrong_author', 'wrong_author']);
  const moved = { ...group.log[0], author: BEN };
  assert.deepEqual(codes(await fold(GROUP, [moved], group.facts)), ['wrong_author']);
});

test('[ROS5] A revoked identity never returns; a user revokes own devices, the founder any device, nobody else.', async () => {
  const group = await newGroup();
  const [ben, tablet, cleo] = [await newSigner(), await newSigner(), await newSigner()];
  await group.post(BEN, knock(BEN, 1, ben), group.secret);
  await group.post(BEN, link(BEN, 2, tablet, 1), ben);
  await group.post(CLEO, knock(CLEO, 1, cleo), group.secret);
  await group.post(CLEO, { kind: 'revoke', user: BEN, device: 1, byUser: CLEO, byDevice: 1 }, cleo);
  assert.equal(names(await group.fold()), 'a1 b1 b2 c1');
  await group.post(BEN, { kind: 'revoke', user: BEN, device: 2, byUser: BEN, byDevice: 1 }, ben);
  assert.equal(names(await group.fold()), 'a1 b1 c1');
  await group.post(BEN, link(BEN, 2, tablet, 1), ben);
  await group.post(ADA, { kind: 'revoke', user: BEN, device: 0, byUser: ADA, byDevice: 1 }, group.ada);
  await group.post(BEN, knock(BEN, 1, ben), group.secret);
  const roster = await group.fold();
  assert.equal(names(roster), 'a1 c1');
  assert.deepEqual(codes(roster), ['not_proven', 'revoked_identity', 'revoked_identity']);
});

test('[ROS6] A knock of a user who has a device is held until a link arrives or a user accepts that exact key.', async () => {
  const group = await newGroup();
  const [ben, again, other] = [await newSigner(), await newSigner(), await newSigner()];
  await group.post(BEN, knock(BEN, 1, ben), group.secret);
  await group.post(BEN, knock(BEN, 1, ben), group.secret);
  await group.post(BEN, knock(BEN, 1, again), group.secret);
  const held = await group.fold();
  assert.deepEqual(held.devices[1].identity, ben.publicKey);
  assert.deepEqual(codes(held), ['held_device']);
  assert.deepEqual(held.warnings[0].identity, again.publicKey);
  const accepted = await group.fold({ accepted: new Set([acceptedKey(BEN, 1, again.publicKey)]) });
  assert.deepEqual(accepted.devices[1].identity, again.publicKey);
  assert.equal(accepted.devices[1].by, 'accepted');
  assert.deepEqual((await group.fold({ accepted: new Set([acceptedKey(BEN, 1, other.publicKey)]) })).devices[1].identity, ben.publicKey);
  await group.post(BEN, link(BEN, 1, again, 1), ben);
  assert.deepEqual((await group.fold()).devices[1].identity, again.publicKey);
});

test('[ROS9] A user whose devices were all revoked rejoins by an invite with a new key, and every member gets a warning.', async () => {
  const group = await newGroup();
  const [ben, again] = [await newSigner(), await newSigner()];
  await group.post(BEN, knock(BEN, 1, ben), group.secret);
  await group.post(ADA, { kind: 'revoke', user: BEN, device: 0, byUser: ADA, byDevice: 1 }, group.ada);
  await group.post(BEN, knock(BEN, 2, again), group.secret);
  const roster = await group.fold();
  assert.equal(names(roster), 'a1 b2');
  assert.deepEqual(codes(roster), ['returned_person']);
});

test('[ROS7] After a new secret the old one proves nothing; a later member derives the old secrets and folds the same roster.', async () => {
  const group = await newGroup();
  const [ben, cleo] = [await newSigner(), await newSigner()];
  await group.post(BEN, knock(BEN, 1, ben), group.secret);
  const second = await nextSecret(GROUP, group.secret);
  await group.post(ADA, { kind: 'secret', number: 1, byUser: ADA, byDevice: 1, earlier: second.earlier }, group.ada);
  await group.post(CLEO, knock(CLEO, 1, cleo), group.secret);
  await group.post(CLEO, knock(CLEO, 1, cleo, 1), group.secret);
  await group.post(CLEO, knock(CLEO, 1, cleo, 1), second.secret);
  const third = await nextSecret(GROUP, second.secret);
  await group.post(BEN, { kind: 'secret', number: 2, byUser: BEN, byDevice: 1, earlier: third.earlier }, ben);
  await group.post(BEN, { kind: 'secret', number: 2, byUser: BEN, byDevice: 1, earlier: third.earlier }, ben);

  assert.deepEqual(codes(await group.fold()), ['not_proven', 'waiting_secret', 'waiting_secret', 'not_proven']);
  const late = await allSecrets(GROUP, [...group.log, { seq: 99, author: ADA, bytes: random(9) }], new Map([[2, third.secret]]));
  assert.deepEqual([...late.keys()].sort(), [0, 1, 2]);
  assert.deepEqual(late.get(0), group.secret);
  const roster = await group.fold({ secrets: late });
  assert.equal(names(roster), 'a1 b1 c1');
  assert.deepEqual(codes(roster), ['not_proven', 'not_proven', 'not_proven']);
  assert.equal(roster.secretNumber, 2);
  assert.equal((await allSecrets(GROUP, group.log, new Map([[2, random(16)]]))).size, 1, 'a wrong secret opens nothing');
});

test('[ROS8] Only the founder sets the policy.', async () => {
  const group = await newGroup();
  const ben = await newSigner();
  await group.post(BEN, knock(BEN, 1, ben), group.secret);
  await group.post(BEN, { kind: 'policy', history: 2, rotationDays: 1, byDevice: 1 }, ben);
  assert.deepEqual([(await group.fold()).history, (await group.fold()).rotationDays], [0, 7]);
  await group.post(ADA, { kind: 'policy', history: 2, rotationDays: 1, byDevice: 1 }, group.ada);
  const roster = await group.fold();
  assert.deepEqual([roster.history, roster.rotationDays], [2, 1]);
  assert.deepEqual(codes(roster), ['not_proven']);
});
