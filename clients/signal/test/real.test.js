// SPDX-License-Identifier: AGPL-3.0-only
/** libsignal over the JavaScript SDK, against the real server: beside a client that does not have it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fromBase64, memoryStore, readEnvelope } from '@orbital-relay/e2ee';
import { CipherClient, textOf } from '@orbital-relay/e2ee/client';
import { OrbitalClient } from '../../javascript/src/all.js';
import { until } from '../../javascript/test/fake.js';
import { Orbital, missing } from '../../javascript/test/orbital.js';
import { signalRatchet } from '../src/index.js';

test('[SIGBOT1] Over the real server two members with libsignal and one without read each other; sessions begin with claimed keys of suite 1.', {
  skip: missing,
}, async (t) => {
  const orbital = await new Orbital().start();
  t.after(() => orbital.close());
  const members = [];
  let group;
  let invite;
  for (const [name, signal] of [
    ['ada', true],
    ['ben', true],
    ['cleo', false],
  ]) {
    const sdk = new OrbitalClient(orbital.url, { verify: true });
    const { user_id: user } = await sdk.api.signup({ username: name, password: 'Correct-horse-1', public_key: {} });
    const client = await CipherClient.open(sdk, { store: memoryStore(), user, ...(signal && { ratchet: signalRatchet() }) });
    t.after(async () => {
      await client.close();
      sdk.close();
    });
    const one = { sdk, client, user, read: [] };
    if (!group) {
      const made = await sdk.api.createGroup({ encrypted_name: 'bmFtZQ==', encrypted_group_key: 'a2V5' });
      group = made.group_id;
      await client.found(group);
      one.group = await client.group(group);
    } else {
      const { invite_code } = await members[0].sdk.api.newInviteCode(group);
      await sdk.api.joinGroup({ invite_code, encrypted_group_key: 'a2V5' });
      invite = await members[0].client.device.invite(group);
      one.group = await client.group(group, { invite: invite.text });
    }
    members.push(one);
    void (async () => {
      for await (const item of one.group.messages()) one.read.push(textOf(item));
    })();
  }
  const known = async () => (await members[0].client.device.roster(group)).devices.length === members.length;
  await until(known, 'everybody is in the roster');
  for (const [at, member] of members.entries()) {
    await member.group.send(`from ${at}`);
    await until(() => members.every((one) => one === member || one.read.includes(`from ${at}`)), `everybody reads ${at}`);
  }
  await members[0].client.device.renewKeys(group);
  await members[0].group.send('with new keys');
  await until(() => members.slice(1).every((one) => one.read.includes('with new keys')), 'everybody reads on');

  for (const one of members) assert.deepEqual(await one.client.device.warnings(group), []);
  const { events } = await members[0].sdk.api.keyMessages({ group_id: group });
  const suites = events
    .filter(({ data }) => data.sender_id === members[0].user)
    .map(({ data }) =>
      readEnvelope(fromBase64(data.encrypted_envelope))
        .keys.deliveries.map(({ suite }) => suite)
        .sort(),
    );
  // A new session by a claimed bundle to the one with libsignal, HPKE to the other; then the session goes on.
  assert.equal(suites.length, 2);
  assert.ok(suites.every((each) => each.includes(16)));
  const [first, second] = suites.map((each) => each.filter((suite) => suite !== 16));
  assert.deepEqual(first, [1]);
  assert.ok(second.length === 1 && (second[0] === 1 || second[0] === 2));
  const [own] = await members[1].sdk.api.keyCounts();
  assert.ok(own.pre_keys > 0 && own.kyber_pre_keys > 0 && own.hpke_pre_keys > 0);
});
