/** Linking a device by a code: what is handed over, what a person sees, and that a lie, a mistake or a kill leaves nothing half done. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { OrbitalClient } from '../../javascript/src/all.js';
import { until } from '../../javascript/test/fake.js';
import { Orbital, missing } from '../../javascript/test/orbital.js';
import { CipherClient, textOf } from '../src/cipher-client.js';
import { E2eeError } from '../src/errors.js';
import { linkCodeText, sealLink, writeLinkCode } from '../src/formats/link.js';
import { copy, fromBase64, memoryStore, random, toHex } from '../src/index.js';
import * as machine from '../src/link-machine.js';
import { CODE_MS, DeviceLink, MAX_LINK_GROUPS, readLinkCode, sdkMailboxes } from '../src/linking.js';
import { ADA, BEN, GROUP, OTHER_GROUP, newSigner } from './people.js';
import { FakeRelay, newFamily, say, texts } from './relay.js';

/** Mailboxes in memory; a test changes `hooks` to lie or to fail. */
class FakeMailboxes {
  boxes = new Map();
  reads = 0;
  hooks = { put: () => {}, read: (found) => found, open: () => random(16) };

  async open() {
    const name = this.hooks.open();
    this.boxes.set(Buffer.from(name).toString('base64url'), null);
    return name;
  }

  async put(name, message) {
    this.hooks.put(name, message);
    if (!this.boxes.has(name)) throw new E2eeError('not_found', 'no such mailbox');
    const present = this.boxes.get(name);
    if (present && toHex(present) !== toHex(message)) throw new E2eeError('conflict', 'another message is in it');
    this.boxes.set(name, message);
  }

  async read(name) {
    this.reads++;
    if (!this.boxes.has(name)) throw new E2eeError('not_found', 'no such mailbox');
    return this.hooks.read(this.boxes.get(name), name);
  }
}

/** Ada with a phone in a group with Ben, and her new tablet. */
async function household({ groups = 1 } = {}) {
  const relay = new FakeRelay();
  const [phone, ben] = [await relay.device(ADA), await relay.device(BEN)];
  const made = [];
  for (let count = 0; count < groups; count++) made.push(await newFamily(relay, [phone, ben]));
  const tablet = await relay.device(ADA, 2);
  for (const group of made) await relay.waitIdle(group, [phone, ben]);
  const mailboxes = new FakeMailboxes();
  return {
    relay,
    phone,
    ben,
    tablet,
    groups: made,
    mailboxes,
    older: new DeviceLink(phone, mailboxes),
    newer: new DeviceLink(tablet, mailboxes),
  };
}

/** All groups of a device, as its store has them. */
const known = async (member) => (await member.store.list('groups', '')).map(([group]) => group);
const rows = async (member) => (await member.store.list('meta', 'link/')).length;
const devices = async (member, group) =>
  (await member.roster(group)).devices.map(({ user, device }) => `${user === ADA ? 'ada' : 'ben'}${device}`).sort();

test('[LINK1] A code hands over every group; after the person has compared the number both devices and the others read each other.', async () => {
  const { relay, phone, ben, tablet, groups, older, newer } = await household({ groups: 2 });
  await phone.verify(BEN);
  const { code, until: end } = await newer.offer();
  assert.match(code, /^[A-Za-z0-9_-]{160}$/);
  assert.equal(end, relay.now + CODE_MS);
  const seen = await older.inspect(` ${code.slice(0, 80)}\n${code.slice(80)} `);
  assert.deepEqual([seen.device, toHex(seen.identity), seen.groups.sort()], [2, toHex(await tablet.identity()), [...groups].sort()]);

  const sent = await older.admit(code);
  const received = await newer.receive();
  assert.match(sent.number, /^\d{6}$/);
  assert.equal(received.number, sent.number);
  assert.deepEqual(received.groups.sort(), [...groups].sort());
  assert.deepEqual(await known(tablet), [], 'nothing is entered before the person confirms');
  assert.deepEqual((await newer.accept()).sort(), [...groups].sort());

  for (const group of groups) {
    await relay.waitIdle(group, [phone, ben, tablet]);
    for (const one of [phone, ben, tablet]) assert.deepEqual(await devices(one, group), ['ada1', 'ada2', 'ben1']);
    await say(tablet, group, 'from the tablet');
    await relay.waitIdle(group, [phone, ben, tablet]);
    await say(ben, group, 'to both');
    await relay.waitIdle(group, [phone, ben, tablet]);
    for (const one of [phone, ben, tablet]) {
      assert.deepEqual(await texts(one, group), ['from the tablet', 'to both']);
      assert.deepEqual(await one.warnings(group), []);
    }
  }
  assert.ok(await tablet.store.get('identities', `verified/${BEN}`), 'a person who was verified on the phone is verified on the tablet');
  assert.deepEqual([await rows(phone), await rows(tablet)], [0, 0]);
});

test('[LINK2] A code with a wrong letter, of another length, version, account or number is refused with a reason, and nothing is sent.', async () => {
  const { phone, ben, tablet, relay, groups, mailboxes, older, newer } = await household();
  mailboxes.hooks.put = () => assert.fail('nothing is put into a mailbox');
  const { code } = await newer.offer();
  const letters = [...code];
  for (let at = 0; at < letters.length; at += 13) {
    const wrong = letters.with(at, letters[at] === 'A' ? 'B' : 'A').join('');
    await assert.rejects(older.admit(wrong), { code: 'malformed' });
  }
  for (const wrong of ['', code.slice(1), `${code}A`, code.replace(/^./, '%')])
    await assert.rejects(older.inspect(wrong), { code: 'malformed' });

  const { bytes: written, ...fields } = await readLinkCode(code);
  const coded = async (more) => linkCodeText(await writeLinkCode({ ...fields, ...more }));
  await assert.rejects(older.admit(await coded({ user: BEN })), { code: 'conflict', message: /another account/ });
  await assert.rejects(older.admit(await coded({ device: 1 })), { code: 'conflict', message: /this one/ });
  await assert.rejects(older.admit(await coded({ identity: await phone.identity() })), { code: 'conflict', message: /this one/ });
  await assert.rejects(older.admit(await coded({ device: 0 })), { code: 'malformed' });
  await assert.rejects(older.admit(await coded({ device: 128 })), { code: 'malformed' });
  await assert.rejects(older.admit(await coded({ identity: new Uint8Array(33).fill(5, 0, 1) })), { code: 'bad_key' });
  const future = copy(written);
  future[0] = 2;
  const { sha256 } = await import('../src/crypto/mac.js');
  future.set((await sha256(future.subarray(0, 116))).subarray(0, 4), 116);
  await assert.rejects(older.admit(linkCodeText(future)), { code: 'unsupported', message: /version 2/ });

  await phone.link(groups[0], { device: 2, identity: (await newSigner()).publicKey, suites: 2 });
  await relay.waitIdle(groups[0], [phone, ben]);
  await assert.rejects(older.admit(code), { code: 'conflict', message: /device 2 of yours is another one/ });
  await phone.revoke(groups[0], ADA, 2);
  await phone.link(groups[0], { device: 3, identity: await tablet.identity(), suites: 2 });
  await phone.revoke(groups[0], ADA, 3);
  await relay.waitIdle(groups[0], [phone, ben]);
  await assert.rejects(older.admit(code), { code: 'conflict', message: /was revoked/ });
  assert.equal(await rows(phone), 0);
});

test('[LINK3] A device that the directory does not list, or lists with another identity, is not linked.', async () => {
  const { relay, groups, phone, older, newer } = await household();
  const { code } = await newer.offer();
  const other = (await newSigner()).publicKey;
  relay.hooks.devices = (list) => list.map((one) => (one.device === 2 ? { ...one, identity: other } : one));
  await assert.rejects(older.admit(code), { code: 'bad_key', message: /another identity/ });
  relay.hooks.devices = (list) => list.filter((one) => one.device !== 2);
  await assert.rejects(older.admit(code), { code: 'not_found', message: /log in on the new device/ });
  assert.deepEqual(await devices(phone, groups[0]), ['ada1', 'ben1']);
  assert.equal(await rows(phone), 0);
});

test('[LINK4] A code serves once: read again by this device or by another, or after ten minutes, it links nothing.', async () => {
  const { relay, phone, ben, tablet, groups, mailboxes, older, newer } = await household();
  const { code } = await newer.offer();
  await older.admit(code);
  await newer.receive();
  await newer.accept();
  const before = relay.groups.get(groups[0]).log.length;
  await assert.rejects(older.admit(code), { code: 'conflict', message: /used before, and nothing was linked/ });
  assert.equal(relay.groups.get(groups[0]).log.length, before);
  await assert.rejects(newer.receive(), { code: 'not_found' });
  await assert.rejects(newer.accept(), { code: 'not_found' });

  const late = new DeviceLink(await relay.device(ADA, 3), mailboxes);
  const second = await late.offer();
  relay.now += CODE_MS;
  mailboxes.boxes.clear();
  await assert.rejects(older.admit(second.code), { code: 'not_found', message: /expired, and nothing was linked/ });
  await assert.rejects(late.receive(), { code: 'not_found', message: /expired/ });
  assert.notEqual((await late.offer()).code, second.code);
  await relay.waitIdle(groups[0], [phone, ben, tablet]);
  assert.deepEqual(await devices(ben, groups[0]), ['ada1', 'ada2', 'ben1']);
});

test('[LINK5] A server that changes, replaces, replays or holds back the message enters nothing; the code is deleted, or expires by the own clock.', async () => {
  const { relay, tablet, mailboxes, older, newer } = await household();
  let replayed;
  for (const lie of [
    (found) => copy(found).fill(0, 40, 41),
    (found) => found.subarray(0, found.length - 1),
    () => random(400),
    () => new Uint8Array(0),
    (found) => copy(found).fill(2, 0, 1),
    (found) => copy(found).fill(0, 1, 33),
    () => replayed,
  ]) {
    mailboxes.hooks.read = (found) => found;
    const { code } = await newer.offer();
    await older.admit(code);
    const stored = [...mailboxes.boxes.values()].at(-1);
    replayed ??= stored;
    mailboxes.hooks.read = () => lie(stored);
    await assert.rejects(newer.receive(), E2eeError, lie);
    assert.deepEqual([await known(tablet), await rows(tablet)], [[], 0], `${lie}`);
  }
  mailboxes.hooks.read = () => {
    relay.now += CODE_MS;
    return null;
  };
  await newer.offer();
  await assert.rejects(newer.receive(), { code: 'not_found', message: /expired/ });
  assert.equal(await rows(tablet), 0);
  mailboxes.hooks.read = () => {
    throw new E2eeError('malformed', 'not base64');
  };
  await newer.offer();
  await assert.rejects(newer.receive(), { code: 'malformed' });
  mailboxes.hooks.open = () => random(15);
  await assert.rejects(newer.offer(), { code: 'malformed', message: /15 bytes/ });
  assert.equal(await rows(tablet), 0);
});

test('[LINK6] An answer by a client that saw the code and was first links nothing: the older device is refused, and the new one shows another number.', async () => {
  const { groups, phone, tablet, mailboxes, older, newer } = await household();
  const { code } = await newer.offer();
  const thief = await newSigner();
  const read = await readLinkCode(code);
  const handed = { group: groups[0], founder: random(16), secret: random(16), secretNumber: 0 };
  const forged = await sealLink(read, { user: ADA, device: 1, identity: thief.publicKey, groups: [handed], verified: [] }, thief);
  await mailboxes.put(Buffer.from(read.mailbox).toString('base64url'), forged);
  await assert.rejects(older.admit(code), { code: 'conflict' });
  assert.deepEqual([await devices(phone, groups[0]), await rows(phone)], [['ada1', 'ben1'], 0]);
  assert.match((await newer.receive()).number, /^\d{6}$/);
  await newer.decline();
  assert.deepEqual([await known(tablet), await rows(tablet)], [[], 0]);

  for (const more of [{ user: BEN }, { device: 2 }, { identity: await tablet.identity() }]) {
    const again = await readLinkCode((await newer.offer()).code);
    const body = { user: ADA, device: 1, identity: thief.publicKey, groups: [handed], verified: [], ...more };
    await mailboxes.put(Buffer.from(again.mailbox).toString('base64url'), await sealLink(again, body, thief));
    await assert.rejects(newer.receive(), E2eeError);
    assert.equal(await rows(tablet), 0);
  }
});

test('[LINK7] The older device, killed at any point, sends the same message again and links once; a lost connection does not lose the confirmation.', async () => {
  const { relay, phone, ben, tablet, groups, mailboxes, older, newer } = await household({ groups: 2 });
  const { code } = await newer.offer();
  const put = [];
  // The answer is lost once before the server has the message, and once behind it.
  mailboxes.hooks.put = (_, message) => {
    put.push(toHex(message));
    if (put.length === 1) throw Object.assign(new Error('no connection'), { retryable: true });
  };
  await assert.rejects(older.admit(code), /no connection/);
  assert.equal(await rows(phone), 1);
  const commit = phone.store.commit;
  phone.store.commit = () => Promise.reject(new Error('killed'));
  await assert.rejects(new DeviceLink(phone, mailboxes).resume(), /killed/);
  phone.store.commit = commit;
  for (const group of groups) assert.deepEqual(await devices(phone, group), ['ada1', 'ben1']);

  const sent = await new DeviceLink(phone, mailboxes).resume();
  assert.equal(new Set(put).size, 1);
  assert.equal(await new DeviceLink(phone, mailboxes).resume(), null);
  assert.equal((await newer.receive()).number, sent.number);
  await newer.accept();
  for (const group of groups) {
    await relay.waitIdle(group, [phone, ben, tablet]);
    const links = relay.groups.get(group).log.filter(({ type, data }) => type === 'new_record' && fromBase64(data.record)[0] === 0x1a);
    assert.equal(links.length, 1);
    assert.deepEqual(await devices(ben, group), ['ada1', 'ada2', 'ben1']);
  }
});

test('[LINK8] The new device, killed at any point before the person confirms, shows the same code or number again; entering is all or nothing.', async () => {
  const { phone, tablet, groups, mailboxes, older, newer } = await household({ groups: 3 });
  const { code } = await newer.offer();
  assert.equal((await new DeviceLink(tablet, mailboxes).offer()).code, code);
  const { number } = await older.admit(code);
  const commit = tablet.store.commit;
  tablet.store.commit = () => Promise.reject(new Error('killed'));
  await assert.rejects(newer.receive(), /killed/);
  tablet.store.commit = commit;
  assert.equal((await new DeviceLink(tablet, mailboxes).receive()).number, number);
  const { reads } = mailboxes;
  mailboxes.boxes.clear();
  assert.equal((await new DeviceLink(tablet, mailboxes).receive()).number, number);
  assert.equal(mailboxes.reads, reads, 'a message that was received is not asked for again');

  tablet.store.commit = () => Promise.reject(new Error('killed'));
  await assert.rejects(newer.accept(), /killed/);
  tablet.store.commit = commit;
  assert.deepEqual(await known(tablet), []);
  assert.equal((await newer.accept()).length, 3);
  assert.equal((await known(tablet)).length, 3);
  assert.deepEqual(groups.length, (await known(phone)).length);
});

test('[LINK9] A second code takes later groups and newer secrets along, and posts no second record; another founder for a known group is refused.', async () => {
  const { relay, phone, ben, tablet, groups, mailboxes, older, newer } = await household();
  const link = async () => {
    await older.admit((await newer.offer()).code);
    await newer.receive();
    return newer.accept();
  };
  await link();
  await relay.waitIdle(groups[0], [phone, ben, tablet]);
  const later = await newFamily(relay, [phone, ben]);
  await relay.waitIdle(later, [phone, ben]);
  const before = relay.groups.get(groups[0]).log.length;
  assert.deepEqual((await link()).sort(), [groups[0], later].sort());
  await relay.waitIdle(later, [phone, ben, tablet]);
  await relay.waitIdle(groups[0], [phone, ben, tablet]);
  assert.equal(relay.groups.get(groups[0]).log.length, before);
  await say(ben, later, 'in the later group');
  await relay.waitIdle(later, [phone, ben, tablet]);
  assert.deepEqual(await texts(tablet, later), ['in the later group']);

  const read = await readLinkCode((await newer.offer()).code);
  const handed = { group: later, founder: random(16), secret: random(16), secretNumber: 0 };
  const signer = await newSigner();
  const forged = await sealLink(read, { user: ADA, device: 1, identity: signer.publicKey, groups: [handed], verified: [] }, signer);
  await mailboxes.put(Buffer.from(read.mailbox).toString('base64url'), forged);
  await newer.receive();
  await assert.rejects(newer.accept(), { code: 'conflict', message: /another founder/ });
});

test('[LINK10] A device without groups, without the present secret or with too many groups hands nothing over, and says why.', async () => {
  const { relay, phone, ben, groups, newer, older } = await household();
  const { code } = await newer.offer();
  const secret = `secret/${groups[0]}/${'0'.repeat(16)}`;
  const kept = await phone.store.get('meta', secret);
  await phone.store.commit([{ table: 'meta', key: secret }], true);
  await assert.rejects(older.inspect(code), { code: 'not_found', message: /secret 0 of .* has not reached/ });
  await phone.store.commit([{ table: 'meta', key: secret, value: kept }], true);

  // A group in which this device is not admitted is left out.
  await phone.store.commit([{ table: 'groups', key: GROUP, value: await phone.store.get('groups', groups[0]) }], true);
  assert.deepEqual((await older.inspect(code)).groups, groups);
  const lonely = new DeviceLink(await relay.device(ADA, 4), new FakeMailboxes());
  await assert.rejects(lonely.inspect(code), { code: 'not_found', message: /in no group/ });

  const writes = [];
  for (let count = 0; count < MAX_LINK_GROUPS; count++) {
    const group = OTHER_GROUP.slice(0, -3) + String(count).padStart(3, '0');
    for (const table of ['groups', 'roster']) writes.push({ table, key: group, value: await phone.store.get(table, groups[0]) });
    writes.push({ table: 'meta', key: `secret/${group}/${'0'.repeat(16)}`, value: kept });
  }
  await phone.store.commit(writes.slice(3), true);
  assert.equal((await older.inspect(code)).groups.length, MAX_LINK_GROUPS);
  await phone.store.commit(writes.slice(0, 3), true);
  await assert.rejects(older.inspect(code), { code: 'unsupported', message: /501 groups/ });
  assert.equal((await devices(ben, groups[0])).length, 2);
});

test('[LINK11] A message of 500 groups fits into a mailbox.', async () => {
  const signer = await newSigner();
  const mailbox = random(16);
  const point = random(32);
  const fields = { mailbox, user: ADA, device: 2, suites: 3, identity: signer.publicKey, point, secret: random(16) };
  const code = { ...fields, bytes: await writeLinkCode(fields) };
  const group = { group: GROUP, founder: random(16), secret: random(16), secretNumber: 2 ** 31 };
  const content = {
    user: ADA,
    device: 1,
    identity: signer.publicKey,
    groups: new Array(MAX_LINK_GROUPS).fill(group),
    verified: new Array(1024).fill(BEN),
  };
  const sealed = await sealLink(code, content, signer);
  assert.ok(sealed.length <= 64 * 1024, `${sealed.length} bytes`);
});

test('[LINK12] Both machines use described names only, have at most one row for each state and input, and refuse what has none.', () => {
  const { NEW_DEVICE, NEW_STATES, NEW_INPUTS, NEW_ACTS, OLD_DEVICE, OLD_STATES, OLD_INPUTS, OLD_ACTS, linkRow } = machine;
  for (const [table, states, inputs, acts] of [
    [NEW_DEVICE, NEW_STATES, NEW_INPUTS, NEW_ACTS],
    [OLD_DEVICE, OLD_STATES, OLD_INPUTS, OLD_ACTS],
  ]) {
    assert.equal(new Set(table.map(({ state, on }) => `${state} ${on}`)).size, table.length);
    for (const [names, key] of [
      [states, 'state'],
      [inputs, 'on'],
      [acts, 'does'],
    ])
      assert.deepEqual(new Set(table.map((row) => row[key])), new Set(Object.keys(names)));
    assert.ok(table.every(({ to }) => states[to]));
  }
  assert.throws(() => linkRow(NEW_DEVICE, 'idle', 'confirmed'), { code: 'not_found' });
});

describe('the real server', { skip: missing }, () => {
  test('[LINK13] Over the real server a new device is linked by a code, reads what is said from then on, and its messages are read.', async (t) => {
    const orbital = await new Orbital().start();
    t.after(() => orbital.close());
    const made = new OrbitalClient(orbital.url).api;
    const { user_id: user } = await made.signup({ username: 'ada', password: 'Correct-horse-1', public_key: {} });
    const at = async () => {
      const { token } = await made.login({ username: 'ada', password: 'Correct-horse-1' });
      const sdk = new OrbitalClient(orbital.url, { token, verify: true });
      const client = await CipherClient.open(sdk, { store: memoryStore(), user });
      t.after(async () => {
        await client.close();
        sdk.close();
      });
      return { sdk, client, read: [], link: new DeviceLink(client.device, sdkMailboxes(sdk)) };
    };
    const follow = async (one, group) => {
      one.group = await one.client.group(group);
      void (async () => {
        for await (const item of one.group.messages()) one.read.push(textOf(item));
      })();
    };
    const [phone, tablet] = [await at(), await at()];
    assert.equal(tablet.client.device.me.device, 2);
    const { group_id: group } = await phone.sdk.api.createGroup({ encrypted_name: 'bmFtZQ==', encrypted_group_key: 'a2V5' });
    await phone.client.found(group);
    await follow(phone, group);
    await until(async () => (await phone.client.device.roster(group)).devices.length === 1, 'the phone has founded the group');
    await phone.group.send('before the tablet');

    const { code } = await tablet.link.offer();
    const waiting = tablet.link.receive();
    const sent = await phone.link.admit(code);
    assert.equal((await waiting).number, sent.number);
    assert.deepEqual(await tablet.link.accept(), [group]);
    await follow(tablet, group);
    for (const one of [phone, tablet])
      await until(async () => (await one.client.device.roster(group)).devices.length === 2, 'both devices are in the roster');
    await phone.group.send('to the tablet');
    await until(() => tablet.read.includes('to the tablet'), 'the tablet reads the phone');
    await tablet.group.send('to the phone');
    await until(() => phone.read.includes('to the phone'), 'the phone reads the tablet');
    assert.deepEqual(tablet.read, ['to the tablet']);
    await assert.rejects(phone.link.admit(code), { code: 'conflict' });
    await assert.rejects(sdkMailboxes(phone.sdk).put('A'.repeat(22), random(10)), { code: 'not_found' });
  });
});
