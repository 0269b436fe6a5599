/** The model's parts, each alone. */
import assert from 'node:assert/strict';
import { mock, test } from 'node:test';
import { seal } from '../js/crypto/envelope.js';
import { importGroupKey, newGroupKey } from '../js/crypto/group-key.js';
import { describeConnection } from '../js/model/connection.js';
import { deviceName } from '../js/model/device-name.js';
import { Drafts } from '../js/model/drafts.js';
import { addressAfterLogin, isLoginProxy, loginAddress } from '../js/model/login-proxy.js';
import { readMediaInfo, shownAs } from '../js/model/medium.js';
import { Outbox } from '../js/model/outbox.js';
import { People } from '../js/model/people.js';
import { ReadMarks } from '../js/model/reads.js';
import { SessionStore } from '../js/model/session.js';
import { Shelf } from '../js/model/shelf.js';
import { Typists } from '../js/model/typing.js';
import { Uploads } from '../js/model/uploads.js';
import { isConfirming, tooLong } from '../js/views/input.js';
import { firstOnly, fullStorage, memoryTable, memoryStorage, until } from './fakes.js';

// What was read

test('[LPX1] a redirect, a page or a refusal that is not the server’s own is a login in front of it; 404, 502 and no answer are not', () => {
  for (const code of ['HTTP_REDIRECT', 'HTTP_200', 'HTTP_302', 'HTTP_401', 'HTTP_403', 'HTTP_407', 'HTTP_511'])
    assert.equal(isLoginProxy({ code }), true, code);
  for (const code of ['NETWORK', 'UNAUTHORIZED', 'FORBIDDEN', 'HTTP_404', 'HTTP_413', 'HTTP_502', 'HTTP_503', undefined])
    assert.equal(isLoginProxy({ code }), false, String(code));
  assert.equal(isLoginProxy(null), false);
});

test('[LPX2] the page opens the login with its own query, and returns to where it was, once', () => {
  const tab = memoryStorage();
  const here = { pathname: '/', search: '?member=2', hash: '#/g/1/t/2' };
  assert.equal(loginAddress(here, tab), '/?member=2&login=');

  assert.equal(addressAfterLogin({ pathname: '/', search: '?member=2&login=', hash: '' }, tab), '/?member=2#/g/1/t/2');
  assert.equal(addressAfterLogin({ pathname: '/', search: '?member=2', hash: '' }, tab), undefined);
  // A proxy may return to the beginning.
  loginAddress(here, tab);
  assert.equal(addressAfterLogin({ pathname: '/', search: '', hash: '' }, tab), '/#/g/1/t/2');
  // A link that is opened meanwhile is where the member wants to be.
  loginAddress(here, tab);
  assert.equal(addressAfterLogin({ pathname: '/', search: '', hash: '#/g/3' }, tab), undefined);
  assert.equal(addressAfterLogin({ pathname: '/', search: '?login=', hash: '' }, tab), '/');
});

test('[READ1] a read position is an event number: a deletion marks nothing as read, and a new event marks its thread as unread', () => {
  const marks = new ReadMarks(new Shelf(memoryStorage(), 'read'));
  for (const seq of [3, 4, 5, 6, 7]) marks.noted('t', seq, false);
  assert.equal(marks.unread('t'), true);
  assert.equal(marks.markRead('t'), true);
  assert.equal(marks.markRead('t'), false);

  marks.noted('t', 7, false);
  assert.equal(marks.unread('t'), false, 'an event that comes again is not new');
  marks.noted('t', 20, false);
  assert.equal(marks.unread('t'), true);
});

test('[READ5] the number of unread events counts those of others since the thread was read, also over a reload', () => {
  const shelf = new Shelf(memoryStorage(), 'read');
  const marks = new ReadMarks(shelf);
  assert.equal(marks.fresh('t'), 0);
  marks.noted('t', 3, false);
  marks.noted('t', 4, true);
  marks.noted('t', 5, false);
  marks.noted('t', 5, false);
  assert.equal(marks.fresh('t'), 2);
  assert.equal(new ReadMarks(shelf).fresh('t'), 2);
  marks.markRead('t');
  assert.equal(marks.fresh('t'), 0);
  assert.equal(new ReadMarks(shelf).fresh('t'), 0);
});

test("[READ2] one's own event does not mark a thread as unread, and does not mark an unread thread as read", () => {
  const marks = new ReadMarks(new Shelf(memoryStorage(), 'read'));
  marks.noted('t', 3, true);
  assert.equal(marks.unread('t'), false);
  marks.noted('t', 4, false);
  marks.noted('t', 5, true);
  assert.equal(marks.unread('t'), true);
});

test('[READ3] marks survive a reload, and a thread read in one tab is read in the other', () => {
  const storage = memoryStorage();
  const shelf = () => new Shelf(storage, 'read');
  const [one, other] = [new ReadMarks(shelf()), new ReadMarks(shelf())];
  one.noted('t', 3, false);
  other.noted('t', 3, false);
  one.markRead('t');
  other.merge();
  one.received('g', 1000);

  assert.equal(other.unread('t'), false);
  assert.equal(new ReadMarks(shelf()).latestAt('g'), 1000);
  storage.setItem('read', '{"threads": {"t": {"last": "x"}, "u": 7}, "groups": {"g": null}}');
  assert.equal(new ReadMarks(shelf()).unread('t'), false);
});

test('[READ4] positions of threads that are read are forgotten after 2,000, those of unread ones never', () => {
  const marks = new ReadMarks(new Shelf(memoryStorage(), 'read'));
  marks.noted('old', 1, false);
  for (let seq = 2; seq < 2100; seq++) {
    marks.noted(`t${seq}`, seq, false);
    marks.markRead(`t${seq}`);
  }

  assert.equal(marks.unread('old'), true);
  assert.equal(marks.unread('t2'), false);
});

// What waits

/** @param {ReturnType<typeof memoryStorage>} storage @param {CryptoKey} key @param {any[]} [pending] */
function outbox(storage, key, pending = []) {
  /** @type {any[]} */
  const sent = [];
  const client = {
    send: async (/** @type {string} */ groupId, /** @type {any} */ draft, /** @type {any} */ options) =>
      void sent.push([groupId, draft, options.key]),
    pending: async () => pending,
  };
  const made = new Outbox(
    client,
    new Shelf(storage, 'refused'),
    async () => key,
    () => {},
  );
  return { made, sent };
}

/** @param {CryptoKey} key @param {string} text */
const reply = async (key, text) => ({ type: 'reply', thread_id: 't', encrypted_body: await seal(key, 'g', 'reply/t', text) });

test('[WAIT1] unsent texts of an earlier run are shown without a server', async () => {
  const key = await importGroupKey(newGroupKey());
  const { made } = outbox(memoryStorage(), key, [{ key: 'k', group_id: 'g', draft: await reply(key, 'Kept.'), created_at: 5 }]);
  await made.restore();

  assert.deepEqual(
    made.waiting.map(({ body, threadId, atMs }) => [body, threadId, atMs]),
    [['Kept.', 't', 5]],
  );
  assert.equal(made.toSend, 1);
});

test('[WAIT2] a refused text and its reason survive a reload, also from an earlier run, until it is sent again', async () => {
  const storage = memoryStorage();
  const key = await importGroupKey(newGroupKey());
  const draft = await reply(key, 'Refused.');
  const first = outbox(storage, key);
  await first.made.failed({ key: 'k', group_id: 'g', draft, error: { code: 'FORBIDDEN', message: 'not a member' } });
  assert.ok(!JSON.stringify([...storage.values]).includes('Refused.'), 'it is stored sealed');

  const second = outbox(storage, key);
  await second.made.restore();
  const [waiting] = second.made.waiting;
  assert.deepEqual([waiting?.body, waiting?.error], ['Refused.', 'not a member']);
  assert.equal(second.made.toSend, 0);
  second.made.resend(/** @type {any} */ (waiting));
  assert.equal(second.sent.length, 1);
  assert.notEqual(second.sent[0][2], 'k', 'it goes under a new key');
  assert.equal(storage.values.has('refused'), false);
  await first.made.reread();
  assert.deepEqual(first.made.waiting, [], 'the other tab no longer offers it');
});

test('[WAIT3] age never drops a text: one that the SDK no longer retries is kept, and says that it may have been sent already', async () => {
  const key = await importGroupKey(newGroupKey());
  const { made } = outbox(memoryStorage(), key);
  await made.failed({ key: 'k', group_id: 'g', draft: await reply(key, 'Old.'), error: { code: 'STALE', message: 'stale' } });

  assert.equal(made.waiting[0]?.body, 'Old.');
  assert.match(made.waiting[0]?.error ?? '', /may have been sent already/);
});

test('[WAIT4] a text that was acknowledged, or came back as an event, is no longer waiting', async () => {
  const key = await importGroupKey(newGroupKey());
  const { made } = outbox(memoryStorage(), key);
  const draft = await reply(key, 'Twice.');
  const id = made.send('g', draft, { threadId: 't', title: null, body: 'Twice.' });
  made.arrived(draft.encrypted_body);
  assert.deepEqual(made.waiting, []);
  assert.equal(made.sent(id), undefined);
});

// Drafts

test('[DRAFT1] a draft survives a reload, encrypted, with title and body; sending deletes it', async () => {
  const storage = memoryStorage();
  const written = { groupId: 'g', key: await importGroupKey(newGroupKey()) };
  const drafts = new Drafts(storage, 'me', () => {});
  for (const end of [1, 5, 13]) drafts.save('new:g', written, { title: 'A title', body: 'half a letter'.slice(0, end) });
  await until(() => storage.values.size === 1);
  const stored = [...storage.values.values()].join();
  await until(async () => (await new Drafts(storage, 'me', () => {}).load('new:g', written)).body === 'half a letter');

  assert.ok(!stored.includes('letter'));
  assert.deepEqual(await drafts.load('new:g', written), { title: 'A title', body: 'half a letter' });
  assert.deepEqual(await drafts.load('other', written), { title: '', body: '' });
  drafts.save('new:g', written, { title: 'A title', body: 'half a letter, and more' });
  drafts.delete('new:g');
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(await new Drafts(storage, 'me', () => {}).load('new:g', written), { title: '', body: '' });
});

test('[DRAFT2] a storage without room is reported, and the draft lasts as long as the page', async () => {
  let full = 0;
  const written = { groupId: 'g', key: await importGroupKey(newGroupKey()) };
  const drafts = new Drafts(fullStorage(), 'me', () => full++);
  drafts.save('t', written, { body: 'kept' });
  await until(() => full > 0);
});

test('[INPUT1] text over the limit is refused with both numbers and never cut; Enter that confirms a word does not send', () => {
  assert.equal(tooLong('x'.repeat(20_000)), '');
  assert.match(tooLong('x'.repeat(28_500)), /28,500 characters; the limit is 20,000\. Nothing was cut/);
  assert.match(tooLong('x'.repeat(201), 200), /201 characters; the limit is 200/);
  assert.equal(isConfirming({ isComposing: true, keyCode: 13 }), true);
  assert.equal(isConfirming({ isComposing: false, keyCode: 229 }), true);
  assert.equal(isConfirming({ isComposing: false, keyCode: 13 }), false);
});

// The session

test('[SESSION1] a tab whose session has ended does not delete the session that another tab started', () => {
  const storage = memoryStorage();
  const sessions = new SessionStore(storage, 'session');
  const [old, fresh] = ['old', 'new'].map((token) => ({ user_id: 'u', username: 'ada', token }));
  sessions.set(/** @type {any} */ (old));
  sessions.set(/** @type {any} */ (fresh));

  assert.equal(sessions.token(/** @type {any} */ (old)), 'new', 'the same user: the token of now');
  sessions.end('old');
  assert.deepEqual(sessions.get(), fresh);
  assert.equal(sessions.token({ user_id: 'v', username: 'ben', token: 'his' }), 'his');
  sessions.end('new');
  assert.equal(sessions.get(), null);
  storage.setItem('session', '{"user_id": 7}');
  assert.equal(sessions.get(), null);
});

/** As navigator.locks, with one lock. @returns {any} */
function oneLock() {
  let held = false;
  let last = Promise.resolve();
  return {
    /** @param {string} _name @param {any} options @param {any} [act] */
    request: (_name, options, act = options) => {
      if (options.ifAvailable && held) return Promise.resolve(act(null));
      const work = last.then(async () => {
        held = true;
        try {
          return await act({});
        } finally {
          held = false;
        }
      });
      last = work.catch(() => {});
      return work;
    },
  };
}

test('[SESSION2] a tab that needs a token while another tab replaces it waits for the new one; a refused replacement keeps the old one', async () => {
  const [storage, locks] = [memoryStorage(), oneLock()];
  const tab = new SessionStore(storage, 'session', locks);
  const other = new SessionStore(storage, 'session', locks);
  const session = { user_id: 'u', username: 'ada', token: 'old' };
  const same = { ...session };
  tab.set(session);
  /** @type {(answer: {token: string}) => void} */
  let answer = () => {};
  const replacing = tab.replace(session, (before) => {
    assert.equal(before, 'old');
    return new Promise((resolve) => (answer = resolve));
  });
  await new Promise((resolve) => setTimeout(resolve, 0));
  let waits = true;
  const needed = other.replaced().then(() => {
    waits = false;
    return other.token(same);
  });
  await new Promise((resolve) => setTimeout(resolve, 0));
  assert.equal(waits, true);
  answer({ token: 'new' });

  assert.deepEqual([await replacing, await needed, session.token], ['new', 'new', 'new']);
  await assert.rejects(
    tab.replace(session, () => Promise.reject(new Error('refused'))),
    /refused/,
  );
  await other.replaced();
  assert.equal(other.token(same), 'new');
});

// Media

test('[MEDIUM1] media metadata of another program is validated: malformed metadata counts as unreadable and is never an error', () => {
  const bad = [
    'null',
    '7',
    '"x"',
    '[]',
    '{}',
    '{"name": 7}',
    '{"name": "a", "type": {}}',
    '{"name": null, "type": "image/png"}',
    'no json',
    '',
    null,
  ];
  for (const text of bad) assert.equal(readMediaInfo(text), null, String(text));
  assert.deepEqual(readMediaInfo('{"name": "a.png", "type": "image/png", "width": 3, "height": 4, "by": "somebody else"}'), {
    name: 'a.png',
    type: 'image/png',
    width: 3,
    height: 4,
  });
  for (const width of ['"3"', '-1', '0', '1e99', '1.5', 'null', '{}'])
    assert.deepEqual(readMediaInfo(`{"name": "a", "width": ${width}, "height": 4}`), { name: 'a', type: '' }, width);
  assert.equal(readMediaInfo(JSON.stringify({ name: '😀'.repeat(500) }))?.name, '😀'.repeat(200));
  assert.equal(shownAs('text/html'), 'application/octet-stream');
});

test("[MEDIUM2] author names come from the server's id; nothing in the ciphertext can change them", () => {
  const around = /** @type {any} */ ({ userId: 'me', api: {}, connected: () => true, ask: () => {}, changed: () => {} });
  const people = new People(around, new Shelf(memoryStorage(), 'notices'));
  people.nameOf('u', 'ada');
  assert.equal(people.nameOf('u'), 'ada');
  assert.equal(people.nameOf('unknown'), 'a former member');
  assert.equal(people.nameOf(undefined), 'a former member');
});

// People

test('[PEOPLE1] each join, leave and removal is one line in the group, also after reloads; leaving ends presence and typing', () => {
  const storage = memoryStorage();
  const around = /** @type {any} */ ({ userId: 'me', api: {}, connected: () => true, ask: () => {}, changed: () => {} });
  const people = () => new People(around, new Shelf(storage, 'notices'));
  const group = /** @type {any} */ ({ id: 'g', notices: [], members: [{ user_id: 'u' }, { user_id: 'me' }], online: new Set(['u', 'me']) });
  const first = people();
  const event = { seq: 4, server_timestamp: 1000 };
  first.moved(group, 'removed', { user_id: 'u', username: 'exfriend' }, event);
  first.moved(group, 'removed', { user_id: 'u', username: 'exfriend' }, event);

  assert.deepEqual(group.notices, [{ kind: 'removed', username: 'exfriend', atMs: 1000, seq: 4 }]);
  assert.deepEqual([...group.online], ['me']);
  assert.deepEqual(group.members, [{ user_id: 'me' }]);
  assert.deepEqual(people().notices(group), group.notices);
  for (let seq = 5; seq < 50; seq++) first.moved(group, 'joined', { user_id: `u${seq}`, username: 'x' }, { seq, server_timestamp: seq });
  assert.equal(group.notices.length, 20);

  const typists = new Typists(() => {});
  typists.began('t', 'u', 'exfriend');
  typists.began('t', 'v', 'ada');
  typists.left(['t'], 'u');
  assert.deepEqual(typists.names('t'), ['ada']);
  typists.clear();
});

test('[PEOPLE2] 400 events of an author who is not known cost two requests a minute, not two an event', async () => {
  let asked = 0;
  const answer = async () => {
    asked++;
    return [];
  };
  const api = { members: answer, presence: answer };
  const ask = (/** @type {() => any} */ question) => question();
  const around = /** @type {any} */ ({ userId: 'me', api, connected: () => true, ask, changed: () => {} });
  const people = new People(around, new Shelf(memoryStorage(), 'notices'));
  const group = /** @type {any} */ ({ id: 'g', notices: [], members: [], online: new Set() });
  for (let event = 0; event < 400; event++) people.lookFor(group, 'bot', event * 100);
  await new Promise((resolve) => setImmediate(resolve));

  assert.equal(asked, 2);
  people.lookFor(group, 'bot', 100_000);
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(asked, 4);
  // Of many authors at once: a request that is in progress answers for all of them.
  for (let author = 0; author < 400; author++) people.lookFor(group, `bot ${author}`, 100_000);
  assert.equal(asked, 6);
});

// Uploads

test("[FITS1] a file over the group's quota is refused with both sizes while it is encrypted, and nothing of it is sent", async () => {
  const key = await importGroupKey(newGroupKey());
  const group = /** @type {any} */ ({ id: 'g', key });
  const sent = /** @type {string[]} */ ([]);
  let total_bytes = 90_000_000;
  const uploads = new Uploads({
    client: /** @type {any} */ ({ uploadMedia: async (/** @type {any} */ { media_id }) => sent.push(media_id) }),
    session: { user_id: 'u', username: 'ada', token: 't' },
    table: memoryTable(),
    groups: new Map(),
    versions: firstOnly,
    quota: async () => ({ max_bytes: 100_000_000, total_bytes }),
    exclusive: async (_, act) => act().then(() => true),
    changed: () => {},
  });
  await uploads.add(group, 't', new File([new Uint8Array(12_000_000)], 'film.mp4'));

  const [upload] = uploads.all.values();
  assert.deepEqual([upload?.state, upload?.error], ['failed', 'The group has room for 10 MB more, and this file has 12 MB.']);
  assert.deepEqual(sent, []);
  total_bytes = 0;
  if (upload) await uploads.resume(upload);
  assert.deepEqual(sent, [upload?.id]);
});

test('[TYPING1] a typing indicator expires after 8 s without a new signal', () => {
  mock.timers.enable({ apis: ['setTimeout'] });
  let changes = 0;
  const typists = new Typists(() => changes++);
  typists.began('t', 'u', 'ada');
  mock.timers.tick(7999);
  assert.deepEqual(typists.names('t'), ['ada']);
  mock.timers.tick(1);
  assert.deepEqual(typists.names('t'), []);
  assert.equal(changes, 1);
  mock.timers.reset();
});

// The connection

test("[PILL1] a device without a network is shown as offline, whatever the socket's state", () => {
  const facts = { caughtUp: true, loginProxy: false, polled: false, nowMs: 1000 };
  const open = /** @type {any} */ ({ status: 'open' });

  assert.equal(describeConnection({ ...facts, state: open, offline: true }).text, 'Offline');
  assert.equal(describeConnection({ ...facts, state: open, offline: false }).text, 'Connected');
  assert.equal(describeConnection({ ...facts, caughtUp: false, state: open, offline: false }).text, 'Catching up…');
  assert.equal(
    describeConnection({ ...facts, state: { status: 'connecting', retry_at: 3500 }, offline: false }).text,
    'Reconnecting in 3 s',
  );
  assert.equal(describeConnection({ ...facts, loginProxy: true, state: { status: 'connecting' }, offline: false }).text, 'Login needed');
});

// Sessions

test('[OWNPG5] a session is called by its browser and system; an unknown one is still called something', () => {
  const mozilla = (/** @type {string} */ system, /** @type {string} */ rest) => deviceName(`Mozilla/5.0 (${system}) ${rest}`);
  const webkit = 'AppleWebKit/537.36 (KHTML, like Gecko)';

  assert.equal(mozilla('X11; Linux x86_64; rv:128.0', 'Gecko/20100101 Firefox/128.0'), 'Firefox on Linux');
  assert.equal(mozilla('Windows NT 10.0; Win64; x64', `${webkit} Chrome/126.0 Safari/537.36 Edg/126.0`), 'Edge on Windows');
  assert.equal(mozilla('Linux; Android 14', `${webkit} Chrome/126.0 Mobile Safari/537.36`), 'Chrome on Android');
  assert.equal(mozilla('iPhone; CPU iPhone OS 17_5 like Mac OS X', `${webkit} Version/17.5 Mobile Safari/604.1`), 'Safari on iPhone');
  assert.equal(mozilla('Macintosh; Intel Mac OS X 10_15_7', `${webkit} Version/17.5 Safari/605.1`), 'Safari on macOS');
  assert.equal(deviceName(''), 'A browser');
});
