/** A member of a group on a real server by the JavaScript package: it enters by an invite, repeats what it reads, and prints it. */
import { createHash } from 'node:crypto';
import { E2eeError, KINDS, Member, fromBase64, hpkeRatchet, memoryStore, readInvite, toBase64 } from '../../clients/e2ee/src/index.js';

const [url, token, user, group, invite] = process.argv.slice(2);
const PATHS = { new_message: '/v1/messages', new_keys: '/v1/key-messages', new_record: `/api/groups/${group}/records` };

async function call(method, path, body, key) {
  const headers = { authorization: `Bearer ${token}`, accept: 'application/json, application/x-ndjson' };
  if (body) headers['content-type'] = 'application/json';
  if (key) headers['idempotency-key'] = key;
  return fetch(url + path, { method, headers, body: body && JSON.stringify(body) });
}

async function ask(method, path, body, key) {
  const answer = await call(method, path, body, key);
  const found = await answer.json();
  if (answer.ok) return found;
  if (found.error === 'EPOCH_CHANGED') throw new E2eeError('epoch_changed', found.message, found.details);
  if (found.error === 'CONFLICT') throw new E2eeError('conflict', found.message);
  throw new Error(`${method} ${path}: ${answer.status} ${JSON.stringify(found)}`);
}

const signed = ({ id, key, signature }) => ({ id, key: toBase64(key), signature: toBase64(signature) });
const offered = (key) => key && { id: key.id, key: fromBase64(key.key), signature: fromBase64(key.signature) };

async function readLog(member) {
  const { position } = await member.group(group);
  const headers = { authorization: `Bearer ${token}`, accept: 'application/x-ndjson' };
  const answer = await fetch(`${url}/v1/events?group_id=${group}&after_seq=${position.seq}`, { headers });
  for (const text of (await answer.text()).split('\n').filter(Boolean)) {
    const { type, data, group_id, seq, prev } = JSON.parse(text);
    if (seq) await member.receive({ type, data, group_id, seq, prev, hash: createHash('sha256').update(text).digest('base64url') });
  }
}

const relay = {
  post: (where, type, body, { key, ifEpoch }) => {
    const fields = { ...body, if_epoch: ifEpoch };
    if (type === 'new_keys') fields.group_id = where;
    if (type === 'new_message') fields.conversation_id = where;
    return ask('POST', PATHS[type], fields, key);
  },
  claim: async (where, devices) => {
    const wanted = devices.map(({ user: user_id, device: device_id, suite }) => ({ user_id, device_id, suite }));
    const { bundles } = await ask('POST', '/v1/keys/claims', { group_id: where, devices: wanted });
    return bundles.map((one) => ({
      user: one.user_id,
      device: one.device_id,
      suite: one.suite,
      identity: fromBase64(one.identity_key),
      hpkePreKey: offered(one.hpke_pre_key),
      lastResort: one.last_resort,
    }));
  },
  putKeys: async ({ device, identity, suites, hpkePreKey, hpkePreKeys }) => {
    const body = { device_id: device, identity_key: toBase64(identity), suites, hpke_pre_keys: hpkePreKeys.map(signed) };
    if (hpkePreKey) body.hpke_pre_key = signed(hpkePreKey);
    return { device: (await ask('PUT', '/v1/keys', body)).device_id };
  },
  devices: async () => [],
  catchUp: () => readLog(member),
};

const store = memoryStore();
const member = new Member({ store, ratchet: hpkeRatchet(store), relay, user, device: 1 });
await member.publishKeys(4);
await member.join(group, readInvite(invite));
await readLog(member);
await member.flush(group);
process.stdout.write('ready\n');

let shown = 0;
for (;;) {
  await readLog(member);
  member.caughtUp(group);
  await member.tick(group);
  const read = (await member.items(group)).filter(({ status, author }) => status === 'read' && author !== user);
  for (const { parts } of read.slice(shown)) {
    const text = new TextDecoder().decode(parts[0].body);
    const body = new TextEncoder().encode(`Node received: ${text}`);
    const plain = { timestamp: Date.now() };
    await member.draft(group, 'new_message', [{ field: 'encrypted_envelope', kind: KINDS.message, body }], plain);
    process.stdout.write(`read ${text}\n`);
  }
  shown = read.length;
  await member.flush(group);
  await new Promise((resolve) => setTimeout(resolve, 100));
}
