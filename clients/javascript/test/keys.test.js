/** Devices, keys, records, epochs and mailboxes, against the real server. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { OrbitalClient, OrbitalError, memoryStore } from '../src/index.js';
import { OrbitalApi, isEpochChanged } from '../src/rest.js';
import { FAST, FakeServer, until } from './fake.js';
import { Orbital, account, missing } from './orbital.js';

const XWING_BYTES = 1216;
const KYBER_BYTES = 1569;
const base64 = (bytes) => Buffer.from(bytes).toString('base64');
const curve = (mark = 1) => base64([5, ...Array(32).fill(mark)]);
/** A signed key that holds its number. */
const signed = (id, size = XWING_BYTES, first = 9) => {
  const key = Buffer.alloc(size);
  key[0] = first;
  key.writeUInt32BE(id, 1);
  return { id, key: base64(key), signature: base64(Buffer.alloc(64)) };
};
const keysBody = (oneTime = 0, firstId = 1) => ({
  identity_key: curve(),
  suites: 2,
  hpke_pre_key: signed(0),
  hpke_pre_keys: Array.from({ length: oneTime }, (_, i) => signed(firstId + i)),
});
const libsignalBody = () => ({
  ...keysBody(1),
  suites: 3,
  registration_id: 7,
  signed_pre_key: signed(0, 33, 5),
  kyber_pre_key: signed(0, KYBER_BYTES, 8),
  pre_keys: [{ id: 1, key: curve(1) }],
  kyber_pre_keys: [signed(1, KYBER_BYTES, 8)],
});

const collect = async (entries) => {
  const all = [];
  for await (const entry of entries) all.push(entry);
  return all;
};

describe('the real server', { skip: missing }, () => {
  let orbital;
  let names = 0;
  before(async () => {
    orbital = await new Orbital().start();
  });
  after(() => orbital.close());

  /** Two people with a group of both. */
  async function pair(t) {
    const [anna, ben] = [new OrbitalClient(orbital.url, { backoff: FAST }), new OrbitalClient(orbital.url, { backoff: FAST })];
    t.after(() => (anna.close(), ben.close()));
    names++;
    const [{ group_id: group, invite_code }] = await account(anna.api, `anna${names}`, 1);
    await account(ben.api, `ben${names}`);
    await ben.api.joinGroup({ invite_code, encrypted_group_key: 'a2V5' });
    return { anna, ben, group };
  }

  test('[SDKKEY6] The JavaScript SDK publishes, counts, lists, claims and removes keys, and reads the events typed.', async (t) => {
    const { anna, ben, group } = await pair(t);
    const stored = await anna.api.publishKeys(keysBody(1));
    const [device, ...none] = await ben.api.devices(group);
    const wanted = [{ user_id: device.user_id, device_id: device.device_id, suite: 16 }];
    const [bundle] = await ben.api.claimKeys(group, wanted, { key: 'claim' });
    const again = await ben.api.claimKeys(group, wanted, { key: 'claim' });
    const [last] = await ben.api.claimKeys(group, wanted);
    const [count] = await anna.api.keyCounts();
    const posted = await anna.api.postKeys({ group_id: group, encrypted_envelope: 'AgA=', if_epoch: 3 });
    const record = await anna.api.postRecord(group, { record: 'cmVjb3Jk', if_epoch: 3 });
    await anna.api.removeDevice(stored.device_id);

    assert.deepEqual([stored.device_id, stored.counts.hpke_pre_keys, none.length], [1, 1, 0]);
    assert.deepEqual([device.identity_key, device.suites], [curve(), 2]);
    assert.deepEqual([bundle.hpke_pre_key.id, bundle.last_resort, last.last_resort], [1, false, true]);
    assert.deepEqual(again, [bundle]);
    assert.deepEqual([count.device_id, count.hpke_pre_keys], [1, 0]);
    const events = await collect(ben.api.eachEvent({ group_id: group, after_seq: 2 }));
    assert.deepEqual(
      events.map(({ type, data }) => [type, data.change ?? data.encrypted_envelope ?? data.record]),
      [
        ['identity_changed', 'added'],
        ['new_keys', 'AgA='],
        ['new_record', 'cmVjb3Jk'],
        ['identity_changed', 'removed'],
      ],
    );
    assert.deepEqual([events[1].seq, events[2].seq], [posted.seq, record.seq]);
    const [listed] = await ben.api.records(group);
    assert.deepEqual([listed.record_id, listed.record, listed.seq], [record.record_id, 'cmVjb3Jk', record.seq]);
    assert.deepEqual(await ben.api.devices(group), []);
  });

  test('[SDKKEY14] A bundle for libsignal has a one-time key of each kind, and a repeated publication adds none.', async (t) => {
    const { anna, ben, group } = await pair(t);
    const body = libsignalBody();
    const { device_id } = await anna.api.publishKeys(body, { key: 'keys' });
    const [{ user_id }] = await ben.api.devices(group);
    const [bundle] = await ben.api.claimKeys(group, [{ user_id, device_id, suite: 1 }]);
    await anna.api.publishKeys(body, { key: 'keys' });
    const [count] = await anna.api.keyCounts();

    assert.deepEqual([bundle.registration_id, bundle.pre_key.id, bundle.kyber_pre_key.id, bundle.signed_pre_key.id], [7, 1, 1, 0]);
    assert.deepEqual([count.pre_keys, count.kyber_pre_keys, count.hpke_pre_keys], [0, 0, 1]);
  });

  test('[SDKKEY7] Every post has if_epoch, by request and by the outbox; one for a former epoch is EPOCH_CHANGED and stores nothing.', async (t) => {
    const { anna, group } = await pair(t);
    const { thread_id } = await anna.api.createThread({ group_id: group, encrypted_title: 'dA==', encrypted_body: 'Yg==', if_epoch: 2 });
    const { seq: epoch } = await anna.api.postRecord(group, { record: 'cmVjb3Jk', if_epoch: 2 });
    const failed = [];
    anna.on('failed', ({ draft, error }) => failed.push([draft.type, error.code]));
    const posts = (if_epoch) => [
      () => anna.api.postMessage({ conversation_id: group, encrypted_envelope: 'bQ==', timestamp: 1, if_epoch }),
      () => anna.api.createThread({ group_id: group, encrypted_title: 'dA==', encrypted_body: 'Yg==', if_epoch }),
      () => anna.api.createReply(thread_id, { encrypted_body: 'Yg==', if_epoch }),
      () => anna.api.postKeys({ group_id: group, encrypted_envelope: 'AgA=', if_epoch }),
      () => anna.send(group, { type: 'message', encrypted_envelope: 'bQ==', if_epoch }),
      () => anna.send(group, { type: 'thread', encrypted_title: 'dA==', encrypted_body: 'Yg==', if_epoch }),
      () => anna.send(group, { type: 'reply', thread_id, encrypted_body: 'Yg==', if_epoch }),
    ];
    for (const post of posts(epoch - 1)) {
      const error = await post().then(
        () => assert.fail('stored'),
        (caught) => caught,
      );
      assert.ok(isEpochChanged(error));
      assert.deepEqual([error.code, error.status, error.details.epoch, error.retryable], ['EPOCH_CHANGED', 409, epoch, false]);
    }
    assert.deepEqual(
      failed,
      ['message', 'thread', 'reply'].map((type) => [type, 'EPOCH_CHANGED']),
    );
    assert.deepEqual(await anna.pending(), []);
    assert.equal((await anna.api.events({ group_id: group })).last_seq, epoch);
    for (const post of posts(epoch)) await post();
    assert.equal((await anna.api.events({ group_id: group })).last_seq, epoch + 7);
    assert.equal(isEpochChanged(new OrbitalError('CONFLICT', 'another body')), false);
    assert.equal(isEpochChanged(new Error('EPOCH_CHANGED')), false);
  });

  test('[SDKKEY15] A draft keeps its if_epoch in the store, and the next client’s post of it is refused the same way.', async (t) => {
    const { anna, group } = await pair(t);
    const store = memoryStore();
    const offline = new OrbitalClient('http://127.0.0.1:9', { token: 't', store, backoff: FAST });
    offline.send(group, { type: 'message', encrypted_envelope: 'bQ==', if_epoch: 1 }).catch(() => {});
    offline.close();
    const { token } = await anna.api.login({ username: `anna${names}`, password: 'Correct-horse-1' });
    const next = new OrbitalClient(orbital.url, { token, store, backoff: FAST });
    t.after(() => next.close());
    const failed = new Promise((resolve) => next.on('failed', resolve));
    next.connect();
    const { draft, error } = await failed;

    assert.equal(draft.if_epoch, 1);
    assert.ok(isEpochChanged(error) && error.details.epoch === 2);
  });

  test('[SDKKEY8] A medium for a former epoch is not posted; with the newer epoch only its first chunk is sent again.', async (t) => {
    const { anna, group } = await pair(t);
    const { thread_id } = await anna.api.createThread({ group_id: group, encrypted_title: 'dA==', encrypted_body: 'Yg==' });
    const { seq: epoch } = await anna.api.postRecord(group, { record: 'cmVjb3Jk' });
    const sent = [];
    const counting = new OrbitalClient(orbital.url, {
      token: (await anna.api.login({ username: `anna${names}`, password: 'Correct-horse-1' })).token,
      fetch: (address, init) => (sent.push(new URL(address).pathname), fetch(address, init)),
    });
    t.after(() => counting.close());
    const media_id = crypto.randomUUID();
    const upload = (if_epoch) =>
      counting.uploadMedia({
        ...{ thread_id, media_id, if_epoch, encrypted_metadata: 'bQ==', encryption_iv: 'aXY=' },
        data: new Blob([new Uint8Array(6 * 1024 * 1024)]),
      });
    const refused = await upload(epoch - 1).catch((error) => error);
    const { last_seq } = await anna.api.events({ group_id: group });
    sent.length = 0;
    await upload(epoch);

    assert.ok(isEpochChanged(refused) && refused.details.epoch === epoch && last_seq === epoch);
    assert.deepEqual(sent, [`/api/media/${media_id}/upload`, '/api/media/upload', '/api/media/upload/complete']);
    assert.equal((await anna.api.threadMedia(thread_id))[0].media_id, media_id);
  });

  test('[SDKKEY9] keyMessages and eachKeyMessage read the new_keys events after a number, page by page.', async (t) => {
    const { anna, ben, group } = await pair(t);
    const seqs = [];
    for (let i = 0; i < 7; i++) {
      seqs.push((await anna.api.postKeys({ group_id: group, encrypted_envelope: 'AgA=' })).seq);
      await anna.api.postMessage({ conversation_id: group, encrypted_envelope: 'bQ==', timestamp: 1 });
    }
    const page = await ben.api.keyMessages({ group_id: group, limit: 3 });

    assert.deepEqual([page.events.map(({ seq }) => seq), page.has_more], [seqs.slice(0, 3), true]);
    assert.deepEqual(
      (await collect(ben.api.eachKeyMessage({ group_id: group, limit: 2 }))).map(({ seq, type }) => [seq, type]),
      seqs.map((seq) => [seq, 'new_keys']),
    );
    assert.deepEqual(
      (await collect(ben.api.eachKeyMessage({ group_id: group, after_seq: seqs[5] }))).map(({ seq }) => seq),
      seqs.slice(6),
    );
  });

  test('[SDKKEY10] A new device without a token opens a mailbox and waits; a device with one puts the message into it.', async (t) => {
    const { anna } = await pair(t);
    const fresh = new OrbitalApi(orbital.url);
    const { mailbox, expires_at } = await fresh.openMailbox();
    assert.ok(Date.parse(expires_at) > Date.now());
    assert.equal(await fresh.readMailbox(mailbox, { wait: 0 }), undefined);
    const waiting = fresh.readMailbox(mailbox);
    await anna.api.fillMailbox(mailbox, 'bGluaw==');
    await anna.api.fillMailbox(mailbox, 'bGluaw==');

    assert.equal(await waiting, 'bGluaw==');
    await assert.rejects(anna.api.fillMailbox(mailbox, 'b3RoZXI='), { code: 'CONFLICT' });
    await assert.rejects(fresh.readMailbox('A'.repeat(22), { wait: 0 }), { code: 'NOT_FOUND' });
    await assert.rejects(fresh.fillMailbox(mailbox, 'bGluaw=='), { code: 'UNAUTHORIZED' });
    const aborted = fresh.readMailbox((await fresh.openMailbox()).mailbox, { signal: AbortSignal.abort(new Error('enough')) });
    await assert.rejects(aborted, { message: 'enough' });
  });

  test('[ANNOT9] An annotation by the JavaScript SDK reaches the subscribers of its group and is listed.', async (t) => {
    const { anna, ben, group } = await pair(t);
    const { thread_id } = await anna.api.createThread({ group_id: group, encrypted_title: 'QQ==', encrypted_body: 'QQ==' });
    const events = [];
    ben.subscribe(group, { since: 0, onEvent: (event) => events.push(event) });
    const posted = await anna.api.postAnnotation(thread_id, { target_id: thread_id, encrypted_body: 'cmVhY3Q=' });
    await until(() => events.some(({ type }) => type === 'new_annotation'));

    const { data, seq } = events.find(({ type }) => type === 'new_annotation');
    assert.deepEqual({ annotation_id: data.annotation_id, seq }, { annotation_id: posted.annotation_id, seq: posted.seq });
    assert.deepEqual(await collect(anna.api.eachAnnotation(thread_id)), [{ ...data, seq }]);
  });

  test('[DELETED17] The JavaScript SDK deletes a message, a reply and a thread, twice, and subscribers get one event each.', async (t) => {
    const { anna, ben, group } = await pair(t);
    const { message_id } = await anna.api.postMessage({ conversation_id: group, encrypted_envelope: 'QQ==', timestamp: 1 });
    const { thread_id } = await anna.api.createThread({ group_id: group, encrypted_title: 'QQ==', encrypted_body: 'QQ==' });
    const { reply_id, seq } = await ben.api.createReply(thread_id, { encrypted_body: 'QQ==' });
    const events = [];
    ben.subscribe(group, { since: seq, onEvent: (event) => events.push(event) });
    await assert.rejects(ben.api.deleteThread(thread_id), { code: 'FORBIDDEN' });
    for (const _ of [1, 2]) {
      await anna.api.deleteMessage(message_id);
      await ben.api.deleteReply(reply_id);
      await anna.api.deleteThread(thread_id);
    }
    await anna.api.postMessage({ conversation_id: group, encrypted_envelope: 'QQ==', timestamp: 1 });
    await until(() => events.some(({ type }) => type === 'new_message'));

    const found = events.filter(({ type }) => type === 'deleted').map(({ data }) => [data.kind, data.target_id]);
    assert.deepEqual(found, [
      ['message', message_id],
      ['reply', reply_id],
      ['thread', thread_id],
    ]);
    await assert.rejects(anna.api.thread(thread_id), { code: 'NOT_FOUND' });
  });

  test('[MSTATE7] With the JavaScript SDK a device stores a state, and another device of the user is notified and reads it.', async (t) => {
    const { anna, group } = await pair(t);
    const before = await anna.api.memberState(group);
    const notices = [];
    anna.on('state_changed', (data) => notices.push(data));
    let caughtUp = false;
    anna.on('caught_up', () => {
      caughtUp = true;
    });
    anna.subscribe(group, { since: 0, onEvent: () => {} });
    await until(() => caughtUp);
    const stored = await anna.api.putMemberState(group, 'c3RhdGU=');
    await until(() => notices.length === 1);

    assert.equal(before.encrypted_state, null);
    assert.deepEqual(notices, [{ group_id: group }]);
    assert.deepEqual(await anna.api.memberState(group), stored);
  });

  test('[SDKKEY11] keys_low is emitted with what is left when a client connects with a low stock, and when a claim makes it low.', async (t) => {
    const { anna, ben, group } = await pair(t);
    const { device_id } = await anna.api.publishKeys(keysBody(10));
    const low = [];
    anna.on('keys_low', (data) => low.push(data));
    anna.subscribe(group, { since: 0, onEvent: () => {} });
    await until(() => anna.state.status === 'open');
    const [{ user_id }] = await ben.api.devices(group);
    assert.deepEqual(low, []);
    await ben.api.claimKeys(group, [{ user_id, device_id, suite: 16 }]);
    await until(() => low.length === 1);
    anna.close();
    anna.connect();
    await until(() => low.length === 2);

    const left = { device_id, pre_keys: 0, kyber_pre_keys: 0, hpke_pre_keys: 9 };
    assert.deepEqual(low, [left, left]);
  });
});

test('[SDKKEY12] devices and records read all pages; a device is identified by its user and its number.', async (t) => {
  const server = await new FakeServer().listen();
  t.after(() => server.kill());
  const devices = ['u1', 'u2', 'u3'].flatMap((user_id) => [1, 2].map((device_id) => ({ user_id, device_id })));
  const records = devices.map((_, i) => ({ record_id: `r${i}` }));
  server.intercept = ({ path, query }, answer) => {
    const [gives, entries] = path === '/v1/keys/devices' ? ['devices', devices] : ['records', records];
    const offset = Number(query.get('offset') ?? 0);
    return answer(200, { [gives]: entries.slice(offset, offset + 2), has_more: offset + 2 < entries.length });
  };
  const client = new OrbitalClient(server.url, { token: 't1' });

  assert.deepEqual(await client.api.devices('g/1'), devices);
  assert.deepEqual(await collect(client.api.eachDevice('g/1')), devices);
  assert.deepEqual(await client.api.records('g/1'), records);
  assert.deepEqual(
    server.requests.map(({ path, query }) => [path, query.get('group_id'), query.get('offset')]),
    [
      ...[null, '2', '4', null, '2', '4'].map((offset) => ['/v1/keys/devices', 'g/1', offset]),
      ...[null, '2', '4'].map((offset) => ['/api/groups/g%2F1/records', null, offset]),
    ],
  );
});
