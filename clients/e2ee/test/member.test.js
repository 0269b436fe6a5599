/** Groups of several devices on a relay in memory: who reads what. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { E2eeError } from '../src/errors.js';
import {
  fromBase64,
  memoryStore,
  openFile,
  readEnvelope,
  readInvite,
  readMediaInfo,
  sealFile,
  toBase64,
  toHex,
  uuidBytes,
  writeMediaInfo,
} from '../src/index.js';
import { ADA, BEN, CLEO } from './people.js';
import { FakeRelay, codes, enter, newFamily, reply, say, texts } from './relay.js';

const family = async (users = [ADA, BEN, CLEO], options = {}) => {
  const relay = new FakeRelay();
  const members = [];
  for (const user of users) members.push(await relay.device(user));
  const group = await newFamily(relay, members, options);
  return { relay, members, group, waitIdle: () => relay.waitIdle(group) };
};
const keysOf = (relay, group) =>
  relay.groups
    .get(group)
    .log.filter(({ type }) => type === 'new_keys')
    .map(({ data }) => readEnvelope(fromBase64(data.encrypted_envelope)));

test('[DEVGRP1] Every member of a group reads every message, once and in log order.', async () => {
  const { members, group, waitIdle } = await family();
  const [ada, ben, cleo] = members;
  await say(ada, group, 'one');
  await waitIdle();
  await say(ben, group, 'two');
  await waitIdle();
  await say(cleo, group, 'three');
  await say(ada, group, 'four');
  await ada.draft(group, 'new_thread', [
    { field: 'encrypted_title', kind: 2, body: Buffer.from('title') },
    { field: 'encrypted_body', kind: 3, body: Buffer.from('body') },
  ]);
  await waitIdle();
  for (const member of members) {
    assert.deepEqual(await texts(member, group), ['one', 'two', 'three', 'four', 'title|body']);
    assert.deepEqual(await codes(member, group), []);
    assert.equal(await member.pending(group), 0);
    assert.equal((await member.group(group)).stopped, null);
  }
});

test('[DEVGRP2] A late joiner reads messages from its joining on; earlier ones are no replay, and need the user’s consent.', async () => {
  const { relay, members, group, waitIdle } = await family([ADA, BEN]);
  const [ada, ben] = members;
  await say(ada, group, 'before');
  await waitIdle();
  const cleo = await relay.device(CLEO);
  await enter(relay, group, ada, cleo);
  await waitIdle();
  await say(ada, group, 'after');
  await waitIdle();
  assert.deepEqual(await texts(cleo, group), ['[waiting]', 'after']);
  assert.deepEqual(await codes(cleo, group), []);
  assert.deepEqual(await texts(ben, group), ['before', 'after']);
});

test('[DEVGRP3] After a removal nothing is encrypted with a chain of the removed device; the other devices read on.', async () => {
  const { relay, members, group } = await family();
  const [ada, ben, cleo] = members;
  await say(ada, group, 'all three');
  await relay.waitIdle(group);
  const before = await ada.sender(group);
  await ada.revoke(group, CLEO, 0, { removed: true });
  await ada.flush(group);
  relay.leave(group, CLEO);
  await relay.waitIdle(group);
  await say(ada, group, 'without Cleo');
  await relay.waitIdle(group);
  assert.deepEqual(await texts(ben, group), ['all three', 'without Cleo']);
  assert.equal((await ada.sender(group)).count, 1);
  assert.equal(before.count, 1);
  const last = keysOf(relay, group).at(-1);
  assert.deepEqual(
    last.keys.deliveries.map(({ user }) => user),
    [BEN],
  );
  for (const event of relay.groups.get(group).log.slice((await cleo.group(group)).position.seq)) await cleo.receive(event);
  assert.deepEqual(await texts(cleo, group), ['all three', '[waiting]']);
  assert.deepEqual((await ada.group(group)).removals, []);
});

test('[DEVGRP4] A post for a former membership is refused, and encrypted again for the current membership.', async () => {
  const { relay, members, group } = await family();
  const [ada, ben, cleo] = members;
  await say(ada, group, 'first');
  await relay.waitIdle(group);
  await ada.draft(group, 'new_message', [{ field: 'encrypted_envelope', kind: 1, body: Buffer.from('second') }]);
  let left = false;
  relay.hooks.post = ({ user, type }) => {
    if (user !== ADA || type !== 'new_message' || left) return;
    left = true;
    relay.leave(group, CLEO);
  };
  await ada.flush(group);
  relay.hooks.post = () => {};
  await relay.waitIdle(group);
  const types = relay.groups.get(group).log.map(({ type }) => type);
  assert.deepEqual(types.slice(types.lastIndexOf('member_left')), ['member_left', 'new_keys', 'new_message']);
  assert.deepEqual(await texts(ben, group), ['first', 'second']);
  await relay.deliver(cleo, group);
  assert.deepEqual(await texts(cleo, group), ['first']);
  await assert.rejects(
    (async () => {
      // A server that names an epoch which the log never reaches.
      relay.hooks.post = () => {
        throw new E2eeError('epoch_changed', 'lie', { epoch: 999 });
      };
      await say(ada, group, 'never');
    })(),
    { code: 'epoch_changed' },
  );
  relay.hooks.post = () => {};
  await relay.waitIdle(group);
  assert.deepEqual(await texts(ben, group), ['first', 'second', 'never'], 'the outbox kept it');
});

test('[DEVGRP5] A crash before or after the server accepts a post loses no draft and sends none twice.', async () => {
  for (const type of ['new_keys', 'new_message'])
    for (const when of ['post', 'posted']) {
      const { relay, members, group } = await family([ADA, BEN]);
      const [ada, ben] = members;
      await say(ada, group, 'before');
      if (type === 'new_keys') await ada.renewKeys(group);
      relay.hooks[when] = (event) => {
        if (event.user === ADA && event.type === type) throw new Error('killed');
      };
      await assert.rejects(say(ada, group, 'during'), /killed/);
      relay.hooks[when] = () => {};
      // A new process finds what the store holds, and nothing else.
      const again = await relay.device(ADA, 1, { store: memoryStore(ada.store.snapshot()), publish: false });
      relay.members = [again, ben];
      await say(again, group, 'after');
      await relay.waitIdle(group);
      for (const member of [again, ben]) assert.deepEqual(await texts(member, group), ['before', 'during', 'after'], `${type} ${when}`);
      assert.equal(await again.pending(group), 0);
      assert.deepEqual(await codes(again, group), []);
    }
});

test('[DEVGRP23] A replayed own message, and one that differs from what was sent, are not shown as messages.', async () => {
  const { relay, members, group } = await family([ADA, BEN]);
  const [ada] = members;
  await say(ada, group, 'once');
  await relay.deliver(ada, group);
  relay.append(group, 'new_message', relay.groups.get(group).log.at(-1).data);
  await say(ada, group, 'changed');
  const last = relay.groups.get(group).log.at(-1);
  const bytes = fromBase64(last.data.encrypted_envelope);
  bytes[200] ^= 1;
  last.data = { ...last.data, encrypted_envelope: toBase64(bytes) };
  await relay.deliver(ada, group);
  assert.deepEqual(await texts(ada, group), ['once', '[repeated]', '[own_lost]']);
  ada.caughtUp(group);
  await ada.tick(group);
  assert.deepEqual(await codes(ada, group), ['repeated', 'withheld_post']);
});

test('[DEVGRP16] A draft accepted without a received answer and encrypted again with new keys is neither sent twice nor kept.', async () => {
  for (const when of ['same chain', 'new chain', 'other tab']) {
    const { relay, members, group } = await family([ADA, BEN]);
    const [ada, ben] = members;
    await say(ada, group, 'before');
    relay.hooks.posted = ({ type }) => {
      if (type === 'new_message') throw new Error('no answer');
    };
    await assert.rejects(say(ada, group, 'once'), /no answer/);
    relay.hooks.posted = () => {};
    let sender = ada;
    if (when === 'new chain') await ada.renewKeys(group);
    if (when === 'other tab') {
      sender = await relay.device(ADA, 1, { store: ada.store, chainName: 'second', publish: false });
      await sender.adoptDrafts(group);
    }
    relay.members = [sender, ben];
    await sender.flush(group);
    await relay.waitIdle(group);
    await say(sender, group, 'after');
    await relay.waitIdle(group);
    for (const member of [sender, ben]) assert.deepEqual(await texts(member, group), ['before', 'once', 'after'], when);
    assert.equal(await sender.pending(group), 0, when);
  }
});

test('[DEVGRP17] If the answer is lost, a device that may have received a chain counts as one that has it when it leaves.', async () => {
  const { relay, members, group } = await family();
  const [ada, ben, cleo] = members;
  relay.hooks.posted = ({ type }) => {
    if (type === 'new_keys') throw new Error('no answer');
  };
  await assert.rejects(say(ada, group, 'one'), /no answer/);
  relay.hooks.posted = () => {};
  await ada.revoke(group, CLEO, 0);
  relay.leave(group, CLEO);
  relay.members = [ada, ben];
  await relay.waitIdle(group);
  for (const event of relay.groups.get(group).log.slice((await cleo.group(group)).position.seq)) await cleo.receive(event);
  assert.deepEqual(await texts(ben, group), ['one']);
  assert.deepEqual(await texts(cleo, group), ['[waiting]']);
});

test('[DEVGRP6] After catch-up a missing key is requested, its owner sends it, and the message decrypts in place.', async () => {
  const { relay, members, group, waitIdle } = await family([ADA, BEN]);
  const [ada, ben] = members;
  await say(ada, group, 'unreadable at first');
  const { log } = relay.groups.get(group);
  const forged = log.map((event) =>
    event.type === 'new_keys' ? { ...event, data: { ...event.data, encrypted_envelope: 'AgA=' } } : event,
  );
  await relay.deliver(ben, group, forged);
  assert.deepEqual(await texts(ben, group), ['[waiting]']);
  await ben.tick(group);
  ben.caughtUp(group);
  for (const [wait, requests] of [
    [0, 0],
    [2_999, 0],
    [1, 1],
    [50_000, 1],
  ]) {
    relay.now += wait;
    await ben.tick(group);
    await ben.flush(group);
    assert.equal(keysOf(relay, group).filter(({ request }) => request).length, requests, `after ${wait}`);
  }
  await waitIdle();
  assert.deepEqual(await texts(ben, group), ['unreadable at first']);
  assert.deepEqual(await texts(ada, group), ['unreadable at first']);
  await waitIdle();
  assert.deepEqual(
    (await codes(ben, group)).filter((code) => code !== 'unreadable_keys'),
    [],
  );
});

test('[DEVGRP7] Requests end after a day: a message that stays undecryptable is reported as such.', async () => {
  const { relay, members, group } = await family([ADA, BEN]);
  const [ada, ben] = members;
  await say(ada, group, 'gone');
  const { log } = relay.groups.get(group);
  await relay.deliver(
    ben,
    group,
    log.map((event) => (event.type === 'new_keys' ? { ...event, data: { ...event.data, encrypted_envelope: 'AgA=' } } : event)),
  );
  ben.caughtUp(group);
  for (const wait of [0, 3_000, 57_000, 3_540_000, 82_800_000, 86_400_000]) {
    relay.now += wait;
    await ben.tick(group);
  }
  await ben.flush(group);
  assert.equal(keysOf(relay, group).filter(({ request }) => request).length, 4);
  assert.deepEqual(await texts(ben, group), ['[no_key]']);
});

test('[DEVGRP8] A reinstalled device gets a warning, is held, and reads only messages after it is accepted.', async () => {
  const { relay, members, group } = await family([ADA, BEN]);
  const [ada] = members;
  await say(ada, group, 'old');
  await relay.waitIdle(group);
  relay.members.splice(1, 1);
  const again = await relay.device(BEN, 1);
  await again.join(group, readInvite((await ada.invite(group)).text), { inviter: ADA });
  await relay.waitIdle(group);
  assert.deepEqual((await codes(ada, group)).sort(), ['held_device', 'identity_differs']);
  await say(again, group, 'from the reinstalled device');
  await say(ada, group, 'while held');
  await relay.waitIdle(group);
  assert.deepEqual(await texts(again, group), ['[waiting]', 'from the reinstalled device', '[waiting]']);
  assert.deepEqual(await texts(ada, group), ['old', '[waiting]', 'while held']);
  const { warnings } = await ada.roster(group);
  const held = warnings.find(({ code }) => code === 'held_device');
  assert.equal(toHex(held.identity), toHex(await again.identity()));
  await ada.accept(group, BEN, 1, held.identity);
  assert.deepEqual(await texts(ada, group), ['old', 'from the reinstalled device', 'while held']);
  await say(ada, group, 'after');
  await relay.waitIdle(group);
  assert.deepEqual(await texts(again, group), ['[waiting]', 'from the reinstalled device', '[waiting]', 'after']);
});

test('[DEVGRP9] A linked device reads messages after its link; a revoked device reads no further message.', async () => {
  const { relay, members, group } = await family([ADA, BEN]);
  const [ada, ben] = members;
  const tablet = await relay.device(BEN, 2);
  await tablet.enterLinked(group, readInvite((await ben.invite(group)).text));
  await relay.waitIdle(group);
  assert.equal((await ada.roster(group)).devices.length, 2);
  await ben.link(group, { user: BEN, device: 2, identity: await tablet.identity(), suites: 2 });
  await relay.waitIdle(group);
  await say(ada, group, 'to both');
  await say(tablet, group, 'from the tablet');
  await relay.waitIdle(group);
  assert.deepEqual(await texts(tablet, group), ['to both', 'from the tablet']);
  assert.deepEqual(await texts(ben, group), ['to both', 'from the tablet']);
  await ben.revoke(group, BEN, 2);
  await relay.waitIdle(group);
  await say(ada, group, 'to the phone');
  await relay.waitIdle(group);
  assert.deepEqual(await texts(tablet, group), ['to both', 'from the tablet', '[waiting]']);
  assert.deepEqual(await texts(ben, group), ['to both', 'from the tablet', 'to the phone']);
});

test('[DEVGRP10] History is accepted only from a verified user or the inviter, within the policy, and names its sender unless the author signed it.', async () => {
  const { relay, members, group, waitIdle } = await family([ADA, BEN], { history: 2 });
  const [ada, ben] = members;
  await say(ada, group, 'by Ada');
  await say(ben, group, 'by Ben');
  await waitIdle();
  const cleo = await relay.device(CLEO);
  await enter(relay, group, ada, cleo);
  await waitIdle();
  assert.deepEqual(await texts(cleo, group), ['[waiting]', '[waiting]']);
  assert.equal(await ben.shareHistory(group, CLEO), 2);
  await waitIdle();
  assert.deepEqual(await texts(cleo, group), ['[waiting]', '[waiting]'], 'Ben did not invite her');
  assert.deepEqual(await codes(cleo, group), ['untrusted_history']);
  assert.equal(await ada.shareHistory(group, CLEO), 2);
  await waitIdle();
  assert.deepEqual(await texts(cleo, group), ['by Ada', 'by Ben']);
  const items = await cleo.items(group);
  assert.deepEqual(
    items.map(({ via }) => via),
    [ADA, null],
    'the giver’s own chain carries no proof of an owner; Ben’s is signed by Ben',
  );
  await ada.setPolicy(group, { history: 0, rotationDays: 7 });
  await waitIdle();
  await assert.rejects(ada.shareHistory(group, CLEO), { code: 'stopped' });
});

test('[DEVGRP25] A device that was shown a chain by somebody else reads nothing that follows its removal.', async () => {
  for (const leaves of ['revoked', 'removed']) {
    const { relay, members, group, waitIdle } = await family([ADA, BEN], { history: 2 });
    const [ada, ben] = members;
    await say(ben, group, 'before');
    await waitIdle();
    const cleo = await relay.device(CLEO);
    await enter(relay, group, ada, cleo);
    await waitIdle();
    await ada.shareHistory(group, CLEO);
    await waitIdle();
    if (leaves === 'revoked') await ada.revoke(group, CLEO);
    else relay.leave(group, CLEO);
    await waitIdle();
    // Ben never gave Cleo the chain himself.
    await say(ben, group, 'after');
    await waitIdle();
    for (const event of relay.groups.get(group).log.slice((await cleo.group(group)).position.seq)) await cleo.receive(event);
    assert.deepEqual(await texts(cleo, group), ['before', '[waiting]'], leaves);
    assert.deepEqual(await texts(ada, group), ['before', 'after']);
  }
});

test('[DEVGRP11] The log reveals an old copy of a store: a warning, and a new chain before anything is sent.', async () => {
  const { relay, members, group } = await family([ADA, BEN]);
  const [ada, ben] = members;
  await say(ada, group, 'one');
  await relay.waitIdle(group);
  const old = ada.store.snapshot();
  await say(ada, group, 'two');
  await relay.waitIdle(group);
  const restored = await relay.device(ADA, 1, { store: memoryStore(old), publish: false });
  relay.members = [restored, ben];
  await relay.deliver(restored, group);
  assert.deepEqual(await codes(restored, group), ['old_copy']);
  assert.equal((await restored.sender(group)).state, 'none');
  await say(restored, group, 'three');
  await relay.waitIdle(group);
  assert.deepEqual(await texts(ben, group), ['one', 'two', 'three']);
  assert.deepEqual(await texts(restored, group), ['one', '[own_lost]', 'three']);
});

test('[DEVGRP12] Two tabs of one device have a chain each, and both read all messages.', async () => {
  const { relay, members, group } = await family([ADA, BEN]);
  const [ada, ben] = members;
  const tab = await relay.device(ADA, 1, { store: ada.store, chainName: 'second', publish: false });
  relay.members = [ada, ben];
  await say(ada, group, 'first tab');
  await say(tab, group, 'second tab');
  await say(ada, group, 'first again');
  await relay.waitIdle(group);
  assert.deepEqual(await texts(ben, group), ['first tab', 'second tab', 'first again']);
  assert.deepEqual(await texts(tab, group), ['first tab', 'second tab', 'first again']);
  await ada.draft(group, 'new_message', [{ field: 'encrypted_envelope', kind: 1, body: Buffer.from('left behind') }]);
  await tab.adoptDrafts(group);
  await tab.flush(group);
  await relay.waitIdle(group);
  assert.equal((await texts(ben, group)).at(-1), 'left behind');
});

test('[DEVGRP13] A chain is rotated after seven days, after 1,000 messages, and on request of the user.', async () => {
  const { relay, members, group, waitIdle } = await family([ADA, BEN]);
  const [ada, ben] = members;
  const chain = async () => keysOf(relay, group).length;
  await say(ada, group, '1');
  const first = await chain();
  relay.now += 7 * 86_400_000 - 1;
  await say(ada, group, '2');
  assert.equal(await chain(), first);
  relay.now += 1;
  await say(ada, group, '3');
  assert.equal(await chain(), first + 1);
  await ada.renewKeys(group);
  await say(ada, group, '4');
  assert.equal(await chain(), first + 2);
  for (let round = 0; round < 1000; round++)
    await ada.draft(group, 'new_message', [{ field: 'encrypted_envelope', kind: 1, body: Buffer.from('x') }]);
  await ada.flush(group);
  assert.equal(await chain(), first + 3);
  await waitIdle();
  const read = await texts(ben, group);
  assert.equal(read.length, 1004);
  assert.ok(read.every((text) => !text.startsWith('[')));
});

test('[DEVGRP14] A renewed invite secret reaches every device; a knock with the old secret has no effect.', async () => {
  const { relay, members, group, waitIdle } = await family([ADA, BEN]);
  const [ada, ben] = members;
  const old = readInvite((await ada.invite(group)).text);
  await ada.renewSecret(group);
  await waitIdle();
  assert.deepEqual(await ben.invite(group), await ada.invite(group));
  assert.equal((await ben.invite(group)).secretNumber, 1);
  const cleo = await relay.device(CLEO);
  relay.join(group, CLEO);
  await cleo.join(group, old);
  await waitIdle();
  assert.deepEqual(await ada.strangers(group), [CLEO]);
  const late = await relay.device(CLEO, 2);
  relay.members.splice(relay.members.indexOf(cleo), 1);
  await enter(relay, group, ben, late);
  await waitIdle();
  assert.deepEqual(await ada.strangers(group), []);
  assert.deepEqual((await late.roster(group)).devices.length, 3, 'derives the older secret and folds the same roster');
});

test('[DEVGRP15] Swapped, replayed and re-attributed contents are shown as warnings, not as messages; replies appear in their threads.', async () => {
  const { relay, members, group, waitIdle } = await family([ADA, BEN]);
  const [ada, ben] = members;
  const thread = '11111111-2222-4333-8444-555555555555';
  await reply(ada, group, thread, 'right');
  await waitIdle();
  assert.deepEqual(await texts(ben, group), ['right']);
  const { data } = relay.groups.get(group).log.at(-1);
  await reply(ada, group, thread, 'moved');
  const moved = relay.groups.get(group).log.at(-1);
  moved.data = { ...moved.data, thread_id: '11111111-2222-4333-8444-999999999999' };
  relay.append(group, 'new_reply', { ...data, author_id: BEN });
  relay.append(group, 'new_reply', data);
  await relay.deliver(ben, group);
  assert.deepEqual(await texts(ben, group), ['right', '[misplaced]', '[wrong_sender]', '[repeated]']);
  assert.deepEqual(
    (await codes(ben, group)).filter((code) => code !== 'broken_chain'),
    ['misplaced', 'wrong_sender', 'repeated'],
  );
});

test('[DEVGRP19] A device that the directory has not seen for 90 days receives no chain; once it is seen again, it receives the chain.', async () => {
  const { relay, members, group, waitIdle } = await family();
  const [ada, ben, cleo] = members;
  await say(ada, group, 'all');
  await waitIdle();
  let unseen = [CLEO];
  relay.hooks.devices = (list) =>
    list.map((one) => ({ ...one, seenAt: unseen.includes(one.user) ? relay.now - 90 * 86_400_000 - 1 : relay.now }));
  await ada.checkDirectory(group);
  await say(ada, group, 'without Cleo');
  await waitIdle();
  assert.deepEqual(await texts(cleo, group), ['all', '[waiting]']);
  assert.deepEqual(await texts(ben, group), ['all', 'without Cleo']);
  unseen = [];
  await ada.checkDirectory(group);
  await say(ada, group, 'again');
  await waitIdle();
  assert.deepEqual(await texts(cleo, group), ['all', '[waiting]', 'again']);
  assert.deepEqual(await codes(ada, group), []);
});

test('[DEVGRP20] A title over the body of another thread is misplaced, even if both have the same author.', async () => {
  const { relay, members, group, waitIdle } = await family([ADA, BEN]);
  const [ada, ben] = members;
  const thread = async (title, body) => {
    await ada.draft(group, 'new_thread', [
      { field: 'encrypted_title', kind: 2, body: Buffer.from(title) },
      { field: 'encrypted_body', kind: 3, body: Buffer.from(body) },
    ]);
    await ada.flush(group);
    return relay.groups.get(group).log.at(-1);
  };
  const one = await thread('holiday', 'the sea');
  const two = await thread('doctor', 'the knee');
  [one.data, two.data] = [
    { ...one.data, encrypted_title: two.data.encrypted_title },
    { ...two.data, encrypted_title: one.data.encrypted_title },
  ];
  const kind = await thread('a title', 'as a body');
  kind.data = { ...kind.data, encrypted_title: kind.data.encrypted_body, encrypted_body: kind.data.encrypted_title };
  await waitIdle();
  assert.deepEqual(await texts(ben, group), ['[misplaced]', '[misplaced]', '[misplaced]']);
});

test('[DEVGRP21] A file’s key is in the content of its event, and decrypts only that file.', async () => {
  const { relay, members, group, waitIdle } = await family([ADA, BEN]);
  const [ada, ben] = members;
  const media = '22222222-2222-4333-8444-555555555555';
  const { key, sealed, sha256 } = await sealFile(media, new Blob(['a photo']));
  const body = writeMediaInfo({ key, sha256, type: 'image/png', name: 'sea.png' });
  await ada.draft(group, 'media_uploaded', [{ field: 'encrypted_metadata', kind: 5, context: uuidBytes(media), body }], {
    media_id: media,
  });
  await ada.flush(group);
  relay.append(group, 'media_uploaded', { ...relay.groups.get(group).log.at(-1).data, media_id: '33333333-2222-4333-8444-555555555555' });
  await waitIdle();
  const [item, moved] = await ben.items(group);
  const info = readMediaInfo(item.parts[0].body);
  assert.equal(await (await openFile(item.data.media_id, info, sealed)).text(), 'a photo');
  assert.equal(moved.status, 'repeated');
});

test('[DEVGRP22] Fuzzed: after any value in an event the log continues, and no such value is shown as a message.', async () => {
  const { relay, members, group } = await family([ADA, BEN]);
  const [ada, ben] = members;
  await say(ada, group, 'true');
  await relay.waitIdle(group);
  const { data } = relay.groups.get(group).log.at(-1);
  const keys = relay.groups.get(group).log.findLast(({ type }) => type === 'new_keys').data.encrypted_envelope;
  const snapshot = ben.store.snapshot();
  // biome-ignore format: a list is read across the line
  const value = fc.oneof(
    fc.jsonValue(), fc.base64String(), fc.constantFrom(ADA, BEN, group, data.encrypted_envelope, keys, undefined, ''),
    fc.uint8Array({ maxLength: 60 }).map((bytes) => toBase64(Uint8Array.from([2, ...bytes]))),
  );
  const names = [
    'user_id',
    'device_id',
    'change',
    'identity_key',
    'author_id',
    'sender_id',
    'record',
    'encrypted_envelope',
    'encrypted_title',
    'encrypted_body',
    'encrypted_metadata',
    'thread_id',
    'media_id',
  ];
  const types = [
    'member_joined',
    'member_left',
    'identity_changed',
    'new_record',
    'new_keys',
    'new_message',
    'new_thread',
    'new_reply',
    'media_uploaded',
    'new_annotation',
    'deleted',
  ];
  const event = fc.record({ type: fc.constantFrom(...types), data: fc.dictionary(fc.constantFrom(...names), value) });
  await fc.assert(
    fc.asyncProperty(fc.array(event, { minLength: 1, maxLength: 6 }), async (events) => {
      const victim = await new FakeRelay().device(BEN, 1, { store: memoryStore(snapshot), publish: false });
      const { position } = await victim.group(group);
      for (const [at, one] of events.entries())
        assert.equal(await victim.receive({ ...one, group_id: group, seq: position.seq + 1 + at, hash: position.hash }), 'processed');
      const shown = (await texts(victim, group)).filter((text) => !text.startsWith('['));
      assert.deepEqual(shown, ['true']);
    }),
    { numRuns: 300 },
  );
});

test('[ASIDE1] A draft that the server refuses is kept for a person, and the next one is sent; it can be sent again or discarded, also by another tab.', async () => {
  const { relay, members, group, waitIdle } = await family([ADA, BEN]);
  const [ada, ben] = members;
  const refuse = (/** @type {number} */ times) => {
    relay.hooks.post = ({ type }) => {
      if (type === 'new_message' && times-- > 0) throw new Error('TOO_LONG');
    };
  };
  for (const text of ['first', 'second']) {
    refuse(1);
    await assert.rejects(say(ada, group, text), /TOO_LONG/);
    const [draft] = (await ada.drafts(group)).filter(({ refused }) => !refused);
    await ada.setAside(group, draft.id, 'too long');
  }
  await say(ada, group, 'third');
  await waitIdle();
  const aside = await ada.drafts(group);
  assert.deepEqual(
    aside.map(({ refused, parts }) => [refused, Buffer.from(parts[0].body).toString()]),
    [
      ['too long', 'first'],
      ['too long', 'second'],
    ],
  );
  assert.deepEqual(await texts(ben, group), ['third']);

  const tab = await relay.device(ADA, 1, { store: ada.store, publish: false, chainName: 'second tab' });
  await tab.adoptDrafts(group, new Set(['main']));
  await waitIdle();
  assert.deepEqual(await texts(ben, group), ['third'], 'nobody decided yet');
  await tab.sendAgain(group, aside[0].id);
  await tab.discard(group, aside[1].id);
  await waitIdle();
  assert.deepEqual(await texts(ben, group), ['third', 'first']);
  assert.deepEqual(await tab.drafts(group), []);
  assert.deepEqual([...(await codes(ada, group)), ...(await codes(ben, group))], []);
});

test('[ASIDE2] A draft whose lost answer was a success is done when its event comes, also when it is kept for a person.', async () => {
  const { relay, members, group, waitIdle } = await family([ADA, BEN]);
  const [ada, ben] = members;
  relay.hooks.posted = ({ type }) => {
    if (type === 'new_message') throw new Error('FORBIDDEN');
  };
  await assert.rejects(say(ada, group, 'said once'), /FORBIDDEN/);
  const [{ id }] = await ada.drafts(group);
  await ada.setAside(group, id, 'refused');
  await waitIdle();
  assert.deepEqual(await ada.drafts(group), []);
  for (const one of [ada, ben]) assert.deepEqual([await texts(one, group), await codes(one, group)], [['said once'], []]);
});

test('[ASIDE3] A draft that another tab took over while its post was in progress is sent once and read, whichever tab sees the event first, and whatever stands before it.', async () => {
  for (const sees of ['writer', 'taker', 'third']) {
    const { relay, members, group, waitIdle } = await family([ADA, BEN]);
    const [ada, ben] = members;
    const open = { store: ada.store, publish: false };
    const taker = await relay.device(ADA, 1, { ...open, chainName: 'taker' });
    const third = await relay.device(ADA, 1, { ...open, chainName: 'third' });
    await say(ada, group, 'before');
    await waitIdle();
    relay.hooks.post = ({ type }) => {
      if (type === 'new_message') throw new Error('no server');
    };
    await assert.rejects(say(taker, group, 'first of the taker'), /no server/);
    relay.hooks.post = () => {};
    relay.hooks.posted = async ({ type }) => {
      if (type !== 'new_message') return;
      relay.hooks.posted = () => {};
      await taker.adoptDrafts(group, new Set(['taker', 'third']));
      await relay.deliver({ writer: ada, taker, third }[sees], group);
    };
    await say(ada, group, 'once');
    await taker.flush(group);
    relay.members = [ada, taker, third, ben];
    await relay.waitIdle(group);
    for (const member of [third, ben])
      assert.deepEqual([...(await texts(member, group))].sort(), ['before', 'first of the taker', 'once'], sees);
    assert.equal(await ada.pending(group), 0, sees);
  }
});

test('[DEVGRP24] A device enters and asks in one transaction, and founds with a secret that was used before the group had an id: a device that is killed at any write is in the group, or begins again.', async () => {
  const relay = new FakeRelay();
  const secret = new Uint8Array(16).fill(7);
  const ada = await relay.device(ADA, 1);
  const group = relay.newGroup(ADA);
  await ada.found(group, { secret });
  relay.members = [ada];
  await relay.waitIdle(group);
  const { text } = await ada.invite(group);
  assert.deepEqual(readInvite(text).secret, secret);

  const ben = await relay.device(BEN, 1);
  relay.join(group, BEN);
  const { commit } = ben.store;
  let commits = 0;
  ben.store.commit = async (...args) => {
    if (++commits > 1) throw new Error('killed');
    return commit.apply(ben.store, args);
  };
  await ben.join(group, readInvite(text)).catch(() => {});
  ben.store.commit = commit;
  relay.members = [ada, ben];
  await relay.waitIdle(group);
  assert.deepEqual(await ada.strangers(group), []);
});
