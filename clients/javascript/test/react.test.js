/** The hooks, rendered. */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { StrictMode, createElement } from 'react';
import { create } from 'react-test-renderer';
import { OrbitalClient, memoryStore } from '../src/index.js';
import { useConnectionState, useGroupEvents, useTyping } from '../src/react.js';
import { FakeServer, FAST, hurry, until } from './fake.js';

// react-test-renderer warns at each start that it is deprecated in favour of a library that needs a document; this one needs none.
const { error } = console;
console.error = (...args) => /react-test-renderer is deprecated/.test(args[0]) || error(...args);

/** Let React render what an act brings about. */
const act = async (does) => {
  await does();
  await new Promise((resolve) => setTimeout(resolve, 5));
};

let server;
let group;
let client;
let root;
beforeEach(async () => {
  server = await new FakeServer().listen();
  group = server.log.group();
  client = new OrbitalClient(server.url, { token: 't1', backoff: FAST });
});
afterEach(async () => {
  await act(async () => root?.unmount());
  root = undefined;
  client.close();
  await server.kill();
});

/** Render a component that calls `hook` with its props; gives what the hook gave last, and a way to render again. */
async function render(hook, props) {
  const box = { renders: 0, now: undefined };
  const Component = (given) => {
    box.renders++;
    box.now = hook(given);
    return null;
  };
  await act(async () => void (root = create(createElement(Component, props))));
  await until(() => box.renders);
  box.again = async (next) => {
    const { renders } = box;
    await act(async () => root.update(createElement(Component, next)));
    await until(() => box.renders > renders);
  };
  return box;
}
const settled = (fact) => until(fact);

test('[REACT1] useGroupEvents returns the group’s events, caughtUp, and live events', async () => {
  for (let i = 0; i < 99; i++) server.post(group);
  // The socket has this group already, so that the hook's events come from the log, in one page.
  const caughtUp = new Promise((resolve) => client.on('caught_up', resolve));
  client.subscribe(group);
  await caughtUp;
  const box = await render(() => useGroupEvents(client, group, { since: 0 }), {});
  await settled(() => box.now.caughtUp);
  assert.deepEqual(
    box.now.events.map(({ seq }) => seq),
    server.log.seqs(group),
  );
  assert.ok(box.renders <= 10, `${box.renders} renders`);
  server.post(group);
  await settled(() => box.now.events.length === 101);
  assert.equal(box.now.error, undefined);
  assert.equal(box.now.reset, undefined);
});

test('[REACT2] useGroupEvents keeps only the latest events, passes each to onEvent, and starts again for another group', async () => {
  const other = server.log.group();
  for (let i = 0; i < 9; i++) server.post(group);
  const seen = [];
  const box = await render(({ id }) => useGroupEvents(client, id, { since: 0, limit: 3, onEvent: ({ seq }) => seen.push(seq) }), {
    id: group,
  });
  await settled(() => box.now.caughtUp);
  assert.deepEqual(
    box.now.events.map(({ seq }) => seq),
    [8, 9, 10],
  );
  assert.deepEqual(seen, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
  await box.again({ id: other });
  await settled(() => box.now.events[0]?.group_id === other);
  assert.equal(box.now.events.length, 1);
  await settled(() => ![...server.connections][0].groups.has(group));
  await box.again({ id: null });
  await settled(() => !box.now.events.length);
});

test('[REACT3] useGroupEvents: a reset empties the list; a refusal is an error', async () => {
  for (let i = 0; i < 5; i++) server.log.append(group);
  server.oldest = 4;
  const box = await render(({ id }) => useGroupEvents(client, id, { since: 1 }), { id: group });
  await settled(() => box.now.reset);
  assert.equal(box.now.reset.data.seq, 6);
  assert.deepEqual(box.now.events, []);
  await box.again({ id: 'not-mine' });
  await settled(() => box.now.error);
  assert.equal(box.now.error.code, 'FORBIDDEN');
});

test('[REACT4] useGroupEvents with `since` returns all events at each mount, whatever the store contains', async () => {
  client.close();
  client = new OrbitalClient(server.url, { token: 't1', backoff: FAST, store: memoryStore() });
  const box = await render(() => useGroupEvents(client, group, { since: 0 }), {});
  await settled(() => box.now.caughtUp);
  await act(async () => root.unmount());
  const again = await render(() => useGroupEvents(client, group, { since: 0 }), {});
  await settled(() => again.now.caughtUp);
  assert.equal(again.now.events.length, 1);
});

test('[REACT5] useGroupEvents: caughtUp is true only while the events reach the head', async () => {
  const box = await render(() => useGroupEvents(client, group, { since: 0 }), {});
  await until(() => box.now.caughtUp);
  server.silent = true;
  await act(async () => server.cut());
  await until(() => !box.now.caughtUp);
  server.silent = false;
  server.post(group);
  await act(async () => server.cut());
  await until(() => box.now.caughtUp);

  assert.deepEqual(
    box.now.events.map(({ seq }) => seq),
    server.log.seqs(group),
  );
});

test('[REACT6] the hooks under StrictMode, which mounts twice: each event once, one typing indicator, nothing left after unmount', async () => {
  const handlers = () => Object.values(client.eventHandlers).flat().length;
  const before = handlers();
  const calls = [];
  const box = {};
  const Component = () => {
    const { events, caughtUp } = useGroupEvents(client, group, { since: 0, onEvent: ({ seq }) => calls.push(seq) });
    Object.assign(box, { events, caughtUp, state: useConnectionState(client), ...useTyping(client, 'th1') });
    return null;
  };
  await act(async () => (root = create(createElement(StrictMode, null, createElement(Component)))));
  await until(() => box.caughtUp);
  server.post(group);
  await until(() => box.events.length === 2);
  const [connection] = server.connections;
  server.sendFrame(connection, 'typing_indicator', { thread_id: 'th1', user_id: 'u2', username: 'ben', is_typing: true });
  await until(() => box.typists.length === 1);
  box.typing();

  assert.deepEqual(calls, [1, 2]);
  assert.equal(box.state.status, 'open');
  assert.equal(server.handshakes.length, 1);
  await act(async () => root.unmount());
  root = undefined;
  await until(() => handlers() === before, 'no handler is left');
  await until(() => connection.groups.size === 0);
  assert.deepEqual(
    connection.frames.filter(({ type }) => type === 'typing_indicator').map(({ data }) => data.is_typing),
    [true, false],
  );
});

test('[REACT7] useConnectionState follows the connection', async () => {
  const box = await render(() => useConnectionState(client), {});
  assert.equal(box.now.status, 'closed');
  client.connect();
  await settled(() => box.now.status === 'open');
  client.close();
  await settled(() => box.now.status === 'closed');
});

test('[REACT8] useTyping lists the users who type, until they stop or time out', async (t) => {
  hurry(t, 20);
  const other = new OrbitalClient(server.url, { token: 't2', backoff: FAST });
  t.after(() => other.close());
  other.connect();
  client.connect();
  await until(() => client.state.status === 'open' && other.state.status === 'open');
  const box = await render(() => useTyping(client, 'th1'), {});
  other.typing('elsewhere');
  other.typing('th1');
  await settled(() => box.now.typists.length === 1);
  assert.equal(box.now.typists[0].username, 'ben');
  other.typing('th1', false);
  await settled(() => box.now.typists.length === 0);
  for (const connection of server.connections)
    server.sendFrame(connection, 'typing_indicator', { thread_id: 'th1', user_id: 'u3', username: 'cem', is_typing: true });
  await settled(() => box.now.typists.length === 1);
  await settled(() => box.now.typists.length === 0);

  const received = [];
  other.on('typing_indicator', ({ thread_id, is_typing }) => received.push([thread_id, is_typing]));
  box.now.typing();
  await settled(() => received.length === 1);
  await act(async () => root.unmount());
  await until(() => received.length === 2);
  assert.deepEqual(received, [
    ['th1', true],
    ['th1', false],
  ]);
});

test('[RCT1] no render shows events or typing users of the previous group or thread', async () => {
  const other = server.log.group();
  for (let i = 0; i < 3; i++) server.post(group);
  const shown = [];
  const box = await render(
    ({ id }) => {
      const { events } = useGroupEvents(client, id, { since: 0 });
      const { typists } = useTyping(client, id);
      shown.push(...events.map(({ group_id }) => [id, group_id]), ...typists.map(({ thread_id }) => [id, thread_id]));
      return events;
    },
    { id: group },
  );
  await settled(() => box.now.length === 4);
  client.emit('typing_indicator', { thread_id: group, user_id: 'u2', username: 'ben', is_typing: true });
  await settled(() => shown.length > 4);
  await box.again({ id: other });
  await settled(() => box.now.length === 1);
  await box.again({ id: null });
  await box.again({ id: group });
  await settled(() => box.now.length === 4);

  assert.deepEqual(
    shown.filter(([id, from]) => id !== from),
    [],
  );
  assert.deepEqual(shown.at(-1)[0], group);
});
