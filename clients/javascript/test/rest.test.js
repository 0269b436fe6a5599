/** The REST side: each method makes the request that the protocol names, and errors carry the server's code. */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { OrbitalClient, OrbitalError } from '../src/index.js';
import { OrbitalApi } from '../src/rest.js';
import { FakeServer } from './fake.js';

/** What every answer has that the client looks for. */
const ANSWER = {
  ...{
    groups: [1],
    members: [2],
    online: [3],
    media: [4],
    token: 'fresh',
    ticket: 't',
    messages: [],
    events: [],
    threads: [],
    replies: [],
  },
  ...Object.fromEntries(
    [
      'signups',
      'user_id',
      'role',
      'sessions',
      'group_id',
      'invite_code',
      'max_bytes',
      'message_id',
      'annotation_id',
      'encrypted_state',
      'thread_id',
      'reply_id',
      'media_id',
      'public_key',
      'subscription_id',
    ].map((name) => [name, 'x']),
  ),
};
const EMPTY = new Set([
  'logout',
  'endSession',
  'deleteAccount',
  'removeMember',
  'mediaDownloaded',
  'deleteMedia',
  'deleteMessage',
  'deleteThread',
  'deleteReply',
  'unsubscribePush',
  'pushSeen',
]);
let server;
let api;
beforeEach(async () => {
  server = await new FakeServer().listen();
  server.intercept = ({ path }, answer) => path !== '/v1/events' && answer(200, ANSWER);
  api = new OrbitalApi(server.url, { token: 't1' });
});
afterEach(() => server.kill());

const id = 'a/b c';
const part = 'a%2Fb%20c';
for (const [name, args, method, path, { query = {}, body, gives } = {}] of [
  ['about', [], 'GET', '/api/about'],
  ['signup', [{ username: 'anna' }], 'POST', '/api/signup', { body: { username: 'anna' } }],
  ['login', [{ username: 'anna' }], 'POST', '/api/login', { body: { username: 'anna' } }],
  ['logout', [], 'POST', '/api/logout'],
  ['account', [], 'GET', '/api/account'],
  ['setDisplayName', ['Ólöf 👵'], 'PUT', '/api/account/display-name', { body: { display_name: 'Ólöf 👵' } }],
  ['setDisplayName', [null], 'PUT', '/api/account/display-name', { body: { display_name: null } }],
  ['changePassword', ['a', 'b'], 'POST', '/api/password', { body: { old_password: 'a', new_password: 'b' } }],
  ['resetPassword', ['a', 'b'], 'POST', '/api/password/reset', { body: { code: 'a', new_password: 'b' } }],
  ['sessions', [{ limit: 5 }], 'GET', '/api/sessions', { query: { limit: '5' } }],
  ['endSession', [id], 'DELETE', `/api/sessions/${part}`],
  ['renewSession', [], 'POST', '/api/session/renew'],
  ['deleteAccount', ['a'], 'DELETE', '/api/account', { body: { password: 'a' } }],
  ['wsTicket', [], 'POST', '/api/ws-ticket'],
  ['groups', [], 'GET', '/api/groups', { gives: [1] }],
  ['createGroup', [{ encrypted_name: 'x' }], 'POST', '/api/groups', { body: { encrypted_name: 'x' } }],
  ['joinGroup', [{ invite_code: 'x' }], 'POST', '/api/groups/join', { body: { invite_code: 'x' } }],
  ['members', [id], 'GET', `/api/groups/${part}/members`, { gives: [2] }],
  ['removeMember', [id, 'u/1'], 'DELETE', `/api/groups/${part}/members/u%2F1`],
  ['setRole', [id, 'u/1', 'admin'], 'PUT', `/api/groups/${part}/members/u%2F1/role`, { body: { role: 'admin' } }],
  ['newInviteCode', [id], 'POST', `/api/groups/${part}/invite-codes`],
  [
    'newInviteCode',
    [id, { singleUse: true, hours: 5 }],
    'POST',
    `/api/groups/${part}/invite-codes`,
    { query: { single_use: 'true', hours: '5' } },
  ],
  ['quota', [id], 'GET', `/api/groups/${part}/quota`],
  ['presence', [id], 'GET', `/api/groups/${part}/presence`, { gives: [3] }],
  ['postMessage', [{ conversation_id: 'g' }], 'POST', '/v1/messages', { body: { conversation_id: 'g' } }],
  [
    'messages',
    [{ since: 5, limit: undefined, conversation_id: 'g' }],
    'GET',
    '/v1/messages',
    { query: { since: '5', conversation_id: 'g' } },
  ],
  ['createThread', [{ group_id: 'g' }], 'POST', '/api/threads', { body: { group_id: 'g' } }],
  [
    'threads',
    [id, { limit: 5, offset: 10, sort: 'created_asc' }],
    'GET',
    `/api/groups/${part}/threads`,
    { query: { limit: '5', offset: '10', sort: 'created_asc' } },
  ],
  ['thread', [id], 'GET', `/api/threads/${part}`],
  ['replies', [id, { offset: 0 }], 'GET', `/api/threads/${part}/replies`, { query: { offset: '0' } }],
  ['createReply', [id, { encrypted_body: 'x' }], 'POST', `/api/threads/${part}/replies`, { body: { encrypted_body: 'x' } }],
  [
    'postAnnotation',
    [id, { target_id: 'y', encrypted_body: 'x' }],
    'POST',
    `/api/threads/${part}/annotations`,
    { body: { target_id: 'y', encrypted_body: 'x' } },
  ],
  ['memberState', [id], 'GET', `/api/groups/${part}/state`],
  ['putMemberState', [id, 'QQ=='], 'PUT', `/api/groups/${part}/state`, { body: { encrypted_state: 'QQ==' } }],
  ['media', [id], 'GET', `/api/media/${part}/info`],
  ['mediaDownloaded', [id], 'POST', `/api/media/${part}/downloaded`],
  ['deleteMedia', [id], 'DELETE', `/api/media/${part}`],
  ['deleteMessage', [id], 'DELETE', `/v1/messages/${part}`],
  ['deleteThread', [id], 'DELETE', `/api/threads/${part}`],
  ['deleteReply', [id], 'DELETE', `/api/replies/${part}`],
  ['pushKey', [], 'GET', '/api/push/key', { gives: 'x' }],
  ['subscribePush', [{ endpoint: 'x' }], 'PUT', '/api/push/subscriptions', { body: { endpoint: 'x' } }],
  ['unsubscribePush', [id], 'DELETE', `/api/push/subscriptions/${part}`],
  ['pushSeen', [id, { looking: true }], 'POST', `/api/push/subscriptions/${part}/seen`, { body: { looking: true } }],
  ['threadMedia', [id], 'GET', `/api/threads/${part}/media`, { gives: [4] }],
])
  test(`[SDKREST1] api.${name}`, async () => {
    if (EMPTY.has(name)) server.intercept = (_call, answer) => answer(204);
    const answer = await api[name](...args);
    const [request] = server.requests;

    assert.equal(`${request.method} ${request.path}`, `${method} ${path}`);
    assert.deepEqual(Object.fromEntries(request.query), query);
    if (body) assert.deepEqual(request.body, body);
    if (gives) assert.deepEqual(answer, gives);
    assert.equal(request.headers.authorization, 'Bearer t1');
  });

test('[SDKREST2] each POST that emits an event accepts an Idempotency-Key', async () => {
  await api.createGroup({ encrypted_name: 'x', encrypted_group_key: 'x' }, { key: 'k1' });
  await api.joinGroup({ invite_code: 'x', encrypted_group_key: 'x' }, { key: 'k2' });
  await api.postMessage({ conversation_id: 'g', encrypted_envelope: 'x', timestamp: 1 }, { key: 'k3' });
  await api.createThread({ group_id: 'g', encrypted_title: 'x', encrypted_body: 'x' }, { key: 'k4' });
  await api.createReply('t', { encrypted_body: 'x' }, { key: 'k5' });

  assert.deepEqual(
    server.requests.map(({ headers }) => headers['idempotency-key']),
    ['k1', 'k2', 'k3', 'k4', 'k5'],
  );
});

test('[SDKREST3] events are returned as objects or as texts', async () => {
  const group = server.log.group();
  server.log.append(group);
  assert.deepEqual(await api.eventTexts(group, 1), [server.log.groups.get(group)[1]]);
  server.intercept = (_call, answer) => answer(200, { events: [], last_seq: 2, has_more: false });
  assert.deepEqual(await api.events({ group_id: group, after_seq: 2 }), { events: [], last_seq: 2, has_more: false });
});

test('[SDKREST4] login and signup set the token, and client.api shares it with the connection', async () => {
  const client = new OrbitalClient(server.url);
  await client.api.login({ username: 'anna', password: 'x' });
  await client.api.groups();
  assert.equal(server.requests.at(-1).headers.authorization, 'Bearer fresh');
  assert.equal(server.requests[0].headers.authorization, undefined);
  assert.equal(await client.api.then, undefined);
});

test('[SDKREST5] an error carries code, status, details and Retry-After', async () => {
  server.intercept = (_call, answer) =>
    answer(429, { error: 'TOO_MANY_REQUESTS', message: 'slowly', details: { retry_after: 7 } }, { 'Retry-After': '7' });
  const error = await api.groups().catch((caught) => caught);

  assert.ok(error instanceof OrbitalError);
  const { code, status, message, details, retryAfterMs, retryable } = error;
  assert.deepEqual(
    { code, status, message, details, retryAfterMs, retryable },
    {
      code: 'TOO_MANY_REQUESTS',
      status: 429,
      message: 'slowly',
      details: { retry_after: 7 },
      retryAfterMs: 7000,
      retryable: true,
    },
  );
});

test('[SDKREST6] a response that does not follow the protocol is still an error', async () => {
  server.intercept = (_call, _answer, response) => (response.writeHead(502, 'Bad Gateway').end('<html>'), true);
  await assert.rejects(api.groups(), { code: 'HTTP_502', status: 0, details: { status: 502 }, retryable: true });
  await server.kill();
  await assert.rejects(api.groups(), { code: 'NETWORK', status: 0, retryable: true });
  server = await new FakeServer().listen();
});

test('[SDKREST7] a refused token is renewed by one call for all concurrent requests', async () => {
  let asked = 0;
  const tokens = ['old', 'new'];
  const renewing = new OrbitalApi(server.url, { token: async () => tokens[asked++] });
  server.intercept = ({ headers }, answer) =>
    headers.authorization === 'Bearer new' ? answer(200, { groups: [] }) : answer(401, { error: 'UNAUTHORIZED', message: '', details: {} });
  await Promise.all([renewing.groups(), renewing.groups(), renewing.groups()]);
  assert.equal(asked, 2);
});

test('[SDKREST8] a request can be cancelled', async () => {
  server.intercept = () => new Promise(() => {});
  const abort = new AbortController();
  setTimeout(() => abort.abort(new Error('enough')), 20);
  await assert.rejects(api.postMessage({ conversation_id: 'g', encrypted_envelope: 'x', timestamp: 1 }, { signal: abort.signal }), {
    message: 'enough',
  });
  await assert.rejects(
    api.postMessage({ conversation_id: 'g', encrypted_envelope: 'x', timestamp: 1 }, { signal: AbortSignal.abort(new Error('before')) }),
    { message: 'before' },
  );
});

test('[SDKREST9] a request without an answer fails with NETWORK after a timeout', async () => {
  server.intercept = () => new Promise(() => {});
  await assert.rejects(api.request('GET', '/api/groups', { timeoutMs: 30 }), { code: 'NETWORK', message: /timeout/ });
});

test('[SDKREST10] addresses: ws and http, with and without a slash', () => {
  for (const [given, url] of [
    ['ws://h:1', 'http://h:1'],
    ['wss://h/', 'https://h'],
    ['http://h//', 'http://h'],
    ['https://h/base', 'https://h/base'],
  ])
    assert.equal(new OrbitalApi(given).url, url);
});

test('[IDM1] a request that must count once has a new Idempotency-Key by default, or the caller’s key', async () => {
  const calls = [
    (options) => api.signup({ username: 'anna' }, options),
    (options) => api.createGroup({ encrypted_name: 'x', encrypted_group_key: 'x' }, options),
    (options) => api.joinGroup({ invite_code: 'x', encrypted_group_key: 'x' }, options),
    (options) => api.postMessage({ conversation_id: 'g', encrypted_envelope: 'x', timestamp: 1 }, options),
    (options) => api.createThread({ group_id: 'g', encrypted_title: 'x', encrypted_body: 'x' }, options),
    (options) => api.createReply('t', { encrypted_body: 'x' }, options),
  ];
  for (const call of calls) {
    await call();
    await call();
    await call({ key: 'mine' });
  }
  const keys = server.requests.map(({ headers }) => headers['idempotency-key']);
  assert.deepEqual(keys.filter((key) => key === 'mine').length, calls.length);
  assert.equal(new Set(keys).size, 2 * calls.length + 1);
  assert.ok(keys.every((key) => /^[!-~]{1,128}$/.test(key)));
});

/** A list in pages of two. */
const paged =
  (gives, entries) =>
  ({ query }, answer) => {
    const offset = Number(query.get('offset') ?? 0);
    return answer(200, { [gives]: entries.slice(offset, offset + 2), has_more: offset + 2 < entries.length });
  };
for (const [each, args, gives, name] of [
  ['eachGroup', [], 'groups', 'group_id'],
  ['eachThread', ['g'], 'threads', 'thread_id'],
  ['eachReply', ['t'], 'replies', 'reply_id'],
])
  test(`[ITR1] ${each} reads page by page to the end, alone and through client.api`, async () => {
    const entries = Array.from({ length: 5 }, (_, i) => ({ [name]: `id${i}` }));
    server.intercept = paged(gives, entries);
    const found = [];
    for await (const entry of api[each](...args)) found.push(entry);
    const client = new OrbitalClient(server.url, { token: 't1' });
    for await (const entry of client.api[each](...args)) found.push(entry);

    assert.deepEqual(found, [...entries, ...entries]);
    assert.equal(server.requests.length, 6);
  });

test('[ITR3] an entry that moves to the next page is returned once, and groups() returns all', async () => {
  const entries = ['c', 'b', 'a'].map((group_id) => ({ group_id }));
  let calls = 0;
  server.intercept = (call, answer) => (calls++ === 1 && entries.unshift({ group_id: 'd' }), paged('groups', entries)(call, answer));
  const found = [];
  for await (const { group_id } of api.eachGroup()) found.push(group_id);
  assert.deepEqual(found, ['c', 'b', 'a']);
  assert.equal((await api.groups()).length, 4);
});

test('[ANNOT8] eachAnnotation continues after the last number', async () => {
  const all = Array.from({ length: 5 }, (_, i) => ({ seq: 10 * i + 7 }));
  server.intercept = ({ query }, answer) => {
    const rest = all.filter(({ seq }) => seq > Number(query.get('after_seq') ?? 0));
    return answer(200, { annotations: rest.slice(0, 2), has_more: rest.length > 2 });
  };
  const seqs = [];
  for await (const { seq } of api.eachAnnotation('t')) seqs.push(seq);
  for await (const { seq } of api.eachAnnotation('t', 17)) seqs.push(seq);
  assert.deepEqual(seqs, [7, 17, 27, 37, 47, 27, 37, 47]);
});

test('[ITR4] eachEvent and eachMessage continue after the last number and the last stamp', async () => {
  const all = Array.from({ length: 5 }, (_, i) => ({ seq: i + 1, server_timestamp: 100 + i }));
  server.intercept = ({ path, query }, answer) => {
    const gives = path === '/v1/events' ? 'events' : 'messages';
    const rest = all.filter(({ seq, server_timestamp }) =>
      gives === 'events' ? seq > Number(query.get('after_seq')) : server_timestamp > Number(query.get('since') ?? 0),
    );
    return answer(200, { [gives]: rest.slice(0, 2), has_more: rest.length > 2 });
  };
  const seqs = [];
  for await (const { seq } of api.eachEvent({ group_id: 'g' })) seqs.push(seq);
  for await (const { seq } of api.eachMessage({ conversation_id: 'g' })) seqs.push(seq);
  assert.deepEqual(seqs, [1, 2, 3, 4, 5, 1, 2, 3, 4, 5]);
});

test('[SDKREST11] eachExportLine yields each line, however it is cut on the way, and is an error without the last one', async () => {
  const lines = [
    { type: 'begin', data: { format: 1 } },
    { type: 'event', data: { text: 'Großmutter 👵'.repeat(900) } },
    { type: 'end', data: { counts: { begin: 1, event: 1 } } },
  ];
  let text = lines.map((line) => `${JSON.stringify(line)}\n`).join('');
  server.intercept = ({ path }, _answer, response) => {
    assert.equal(path, '/api/account/export');
    response.writeHead(200, { 'Content-Type': 'application/x-ndjson' });
    const bytes = Buffer.from(text);
    for (let at = 0; at < bytes.length; at += 17) response.write(bytes.subarray(at, at + 17));
    response.end();
    return true;
  };
  const read = async () => {
    const found = [];
    try {
      for await (const line of api.eachExportLine()) found.push(line);
    } catch (error) {
      return [found, error.code];
    }
    return [found, undefined];
  };
  assert.deepEqual(await read(), [lines, undefined]);
  for (const rest of ['', '{"type":"end"', '<html>\n', 'x'.repeat(5 * 1024 * 1024)]) {
    text = `${lines
      .slice(0, 2)
      .map((line) => JSON.stringify(line))
      .join('\n')}\n${rest}`;
    assert.deepEqual(await read(), [lines.slice(0, 2), 'NETWORK'], rest.slice(0, 20));
  }
  const abort = new AbortController();
  const begun = api.eachExportLine({ signal: abort.signal });
  assert.deepEqual((await begun.next()).value, lines[0]);
  await begun.return();
  abort.abort(new Error('stopped'));
  await assert.rejects(api.eachExportLine({ signal: abort.signal }).next(), { message: 'stopped' });
});

test('[ITR2] eventPage returns the header values of the page', async () => {
  server.intercept = (_call, _answer, response) => (
    response.writeHead(200, { 'Content-Type': 'application/x-ndjson', 'X-Last-Seq': '9', 'X-Has-More': 'true' }).end('{"a":1}\n'), true
  );
  assert.deepEqual(await api.eventPage({ group_id: 'g', after_seq: 3, limit: 1 }), { texts: ['{"a":1}'], last_seq: 9, has_more: true });
});
