/** The requests of a server administrator; a page that does not use them does not load them. */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { size } from '../scripts/size.js';
import { OrbitalAdminApi } from '../src/admin.js';
import { OrbitalApi } from '../src/rest.js';
import { FakeServer } from './fake.js';
import { missing, Orbital } from './orbital.js';

const ENTRY = { user_id: 'u' };
const ANSWER = {
  ...{ users: [ENTRY], groups: [{ group_id: 'g' }], invitations: [1], invitation: 'x', code: 'x' },
  ...{ user: ENTRY, group: { group_id: 'g' }, media_bytes: 0, status: 'ready' },
};
const id = 'a/b c';
const part = 'a%2Fb%20c';

describe('requests', () => {
  let server;
  let api;
  beforeEach(async () => {
    server = await new FakeServer().listen();
    api = new OrbitalAdminApi(server.url, { token: 't1' });
  });
  afterEach(() => server.kill());

  for (const [name, args, method, path, { query = {}, body, gives, empty } = {}] of [
    ['users', [{ search: 'an', limit: 5 }], 'GET', '/users', { query: { search: 'an', limit: '5' } }],
    ['user', [id], 'GET', `/users/${part}`],
    ['disableUser', [id, 'lost phone'], 'POST', `/users/${part}/disable`, { body: { reason: 'lost phone' }, empty: true }],
    ['disableUser', [id], 'POST', `/users/${part}/disable`, { body: { reason: '' }, empty: true }],
    ['enableUser', [id], 'POST', `/users/${part}/enable`, { empty: true }],
    ['setUserRole', [id, 'admin'], 'PUT', `/users/${part}/role`, { body: { role: 'admin' }, empty: true }],
    ['resetPassword', [id], 'POST', `/users/${part}/password-reset`],
    ['deleteUser', [id], 'DELETE', `/users/${part}`, { empty: true }],
    ['groups', [{ offset: 3 }], 'GET', '/groups', { query: { offset: '3' } }],
    ['group', [id], 'GET', `/groups/${part}`],
    ['deleteGroup', [id], 'DELETE', `/groups/${part}`, { empty: true }],
    ['invitations', [], 'GET', '/invitations', { gives: [1] }],
    ['invite', [], 'POST', '/invitations', { body: { note: '', days: 7 } }],
    ['invite', [{ note: 'ben', days: 2 }], 'POST', '/invitations', { body: { note: 'ben', days: 2 } }],
    ['revokeInvitation', [3], 'DELETE', '/invitations/3', { empty: true }],
    ['storage', [], 'GET', '/storage'],
    ['health', [], 'GET', '/health'],
  ])
    test(`[ADMJS1] ${name}(${args.map((one) => JSON.stringify(one))}) is ${method} ${path}`, async () => {
      server.intercept = (_call, answer) => (empty ? answer(204) : answer(200, ANSWER));
      const answer = await api[name](...args);
      const [request] = server.requests;

      assert.equal(`${request.method} ${request.path}`, `${method} /api/admin${path}`);
      assert.deepEqual(Object.fromEntries(request.query), query);
      if (body) assert.deepEqual(request.body, body);
      assert.deepEqual(answer, empty ? undefined : (gives ?? ANSWER));
      assert.equal(request.headers.authorization, 'Bearer t1');
    });

  test('[ADMJS2] eachUser and eachGroup read page by page', async () => {
    server.intercept = ({ query }, answer) => {
      const offset = Number(query.get('offset') ?? 0);
      const entries = [offset, offset + 1].map((number) => ({ user_id: `u${number}`, group_id: `g${number}` }));
      return answer(200, { users: entries, groups: entries, has_more: offset < 2 });
    };
    const found = [];
    for await (const { user_id } of api.eachUser({ search: 'u' })) found.push(user_id);
    for await (const { group_id } of api.eachGroup()) found.push(group_id);

    assert.deepEqual(found, ['u0', 'u1', 'u2', 'u3', 'g0', 'g1', 'g2', 'g3']);
    assert.deepEqual(
      server.requests.map(({ query }) => query.get('search')),
      ['u', 'u', null, null],
    );
  });
});

test('[ADMJS3] the administration is an entry of its own: no other entry loads it', async () => {
  for (const entry of ['index.js', 'all.js', 'rest.js', 'react.js']) {
    const { files, later } = await size(entry);
    assert.ok(![...files, ...later].includes('admin.js'), entry);
  }
  assert.ok((await size('admin.js')).files.has('requests.js'));
});

test('[ADMJS4] a first account administers a real server; a second one may not', { skip: missing }, async (t) => {
  const orbital = await new Orbital().start();
  t.after(() => orbital.close());
  const password = 'Correct-horse-1';
  const enter = async (username) => {
    const { token } = await new OrbitalApi(orbital.url).signup({ username, password, public_key: {} });
    return new OrbitalAdminApi(orbital.url, { token });
  };
  const anna = await enter('anna');
  const { invitation, number } = await anna.invite({ note: 'ben' });
  const ben = await enter('ben');
  await assert.rejects(ben.users(), { code: 'FORBIDDEN' });
  await anna.setUserRole('ben', 'admin');
  const { users, has_more } = await ben.users({ search: 'BE' });
  await ben.setUserRole('ben', 'admin');
  await anna.setUserRole('ben', 'user');
  await anna.disableUser('ben', 'lost phone');
  const { user } = await anna.user('ben');
  await anna.enableUser('ben');
  const { code } = await anna.resetPassword('ben');
  const back = await new OrbitalApi(orbital.url).resetPassword(code, 'Another-horse-2');
  const [row] = await anna.invitations();
  await anna.revokeInvitation(number);
  await assert.rejects(anna.revokeInvitation(number), { code: 'NOT_FOUND' });
  await anna.deleteUser(back.user_id);

  assert.deepEqual([users.map(({ username, admin }) => [username, admin]), has_more], [[['ben', true]], false]);
  assert.deepEqual([user.state, user.disabled_reason, user.admin], ['disabled', 'lost phone', false]);
  assert.deepEqual([row.note, row.used_by, invitation.length > 20], ['ben', null, true]);
  assert.deepEqual((await anna.groups()).groups, []);
  assert.ok((await anna.storage()).disk_free_bytes > 0);
  assert.equal((await anna.health()).status, 'ready');
});
