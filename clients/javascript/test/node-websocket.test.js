/** The WebSocket for Node 20, against the `ws` package and against a peer that breaks the rules. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { createServer } from 'node:net';
import { afterEach, beforeEach, test } from 'node:test';
import { WebSocketServer } from 'ws';
import { NodeWebSocket } from '../src/node-websocket.js';

let server;
let url;
let peers;
beforeEach(async () => {
  peers = [];
  server = new WebSocketServer({
    port: 0,
    host: '127.0.0.1',
    perMessageDeflate: true,
    handleProtocols: (offered) => offered.has('orbital.v1') && 'orbital.v1',
  });
  server.on('connection', (peer) => {
    peers.push(peer);
    peer.on('error', () => {});
    peer.on('message', (bytes, binary) => peer.send(binary ? bytes : bytes.toString()));
  });
  await new Promise((resolve) => server.on('listening', resolve));
  url = `ws://127.0.0.1:${server.address().port}/ws?x=1`;
});
afterEach(() => {
  for (const peer of peers) peer.terminate();
  server.close();
});

const opened = (socket) =>
  new Promise((resolve, reject) => Object.assign(socket, { onopen: resolve, onerror: ({ message }) => reject(new Error(message)) }));
const closed = (socket) => new Promise((resolve) => (socket.onclose = resolve));
const message = (socket) => new Promise((resolve) => (socket.onmessage = ({ data }) => resolve(data)));

for (const length of [0, 1, 125, 126, 65_535, 65_536, 300_000])
  test(`a text of ${length} bytes goes and comes back`, async () => {
    const socket = new NodeWebSocket(url);
    await opened(socket);
    const text = 'ä'.repeat(length / 2) + 'x'.repeat(length % 2);
    socket.send(text);
    assert.equal(await message(socket), text);
    socket.close();
    assert.deepEqual(await closed(socket), { code: 1000, reason: '', wasClean: true });
  });

test('the subprotocol that the server chose is reported', async () => {
  const socket = new NodeWebSocket(url, ['orbital.v1', 'bearer.t']);
  await opened(socket);
  assert.equal(socket.protocol, 'orbital.v1');
  socket.close(4001, 'done');
  assert.equal((await closed(socket)).code, 4001);
});

test('fragments, with a ping between them, make one message', async () => {
  const socket = new NodeWebSocket(url);
  await opened(socket);
  const answered = new Promise((resolve) => peers[0].on('pong', resolve));
  const received = message(socket);
  peers[0].send('one ', { fin: false });
  peers[0].ping('are you there?');
  peers[0].send('message', { fin: true });
  assert.equal(await received, 'one message');
  assert.equal((await answered).toString(), 'are you there?');
  socket.close();
});

test('the peer’s close is reported with code and reason; a broken connection as 1006', async () => {
  const socket = new NodeWebSocket(url);
  await opened(socket);
  const end = closed(socket);
  peers[0].close(1012, 'restart');
  assert.deepEqual(await end, { code: 1012, reason: 'restart', wasClean: true });

  const other = new NodeWebSocket(url);
  await opened(other);
  const cut = closed(other);
  peers[1].terminate();
  assert.deepEqual(await cut, { code: 1006, reason: '', wasClean: false });
  other.send('into the void');
  assert.equal(other.readyState, 3);
});

test('misuse is reported at once', async () => {
  assert.throws(() => new NodeWebSocket('http://127.0.0.1/'), SyntaxError);
  const socket = new NodeWebSocket(url);
  assert.throws(() => socket.send('too early'), /not open/);
  assert.throws(() => socket.close(1006), RangeError);
  socket.close();
  assert.equal((await closed(socket)).code, 1006);
});

test('nobody there is an error and a close', async () => {
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  const socket = new NodeWebSocket(`ws://127.0.0.1:${port}`);
  const error = new Promise((resolve) => (socket.onerror = resolve));
  assert.equal((await closed(socket)).code, 1006);
  assert.match((await error).message, /ECONNREFUSED/);
});

/** A peer that answers the handshake and then says these bytes. */
const raw = async (t, bytes, head = {}) => {
  const peer = createServer((socket) => {
    socket.on('error', () => {});
    socket.once('data', (request) => {
      const key = /sec-websocket-key: (.*)\r\n/i.exec(request.toString())[1];
      const accept = createHash('sha1').update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64');
      const headers = { Upgrade: 'websocket', Connection: 'Upgrade', 'Sec-WebSocket-Accept': accept, ...head };
      const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
      socket.write(Buffer.concat([Buffer.from(`HTTP/1.1 101 Switching Protocols\r\n${lines.join('')}\r\n`), Buffer.from(bytes)]));
    });
  });
  await new Promise((resolve) => peer.listen(0, '127.0.0.1', resolve));
  t.after(() => peer.close());
  return new NodeWebSocket(`ws://127.0.0.1:${peer.address().port}`);
};

for (const [what, bytes, code] of [
  ['a reserved bit', [0xc1, 0], 1002],
  ['a masked frame', [0x81, 0x80, 0, 0, 0, 0], 1002],
  ['a continuation of nothing', [0x80, 0], 1002],
  ['a message inside a message', [0x01, 0, 0x81, 0], 1002],
  ['an unknown opcode', [0x83, 0], 1002],
  ['an unknown control frame', [0x8b, 0], 1002],
  ['a fragmented ping', [0x09, 0], 1002],
  ['a ping too long', [0x89, 126, 0, 126], 1002],
  ['text that is not UTF-8', [0x81, 1, 0xff], 1007],
  ['a message too long', [0x81, 127, 0, 0, 0, 0, 2, 0, 0, 0], 1009],
])
  test(`${what} ends the connection with ${code}`, async (t) => {
    const socket = await raw(t, [...bytes, ...Buffer.alloc(126)]);
    socket.onmessage = () => assert.fail('nothing may be delivered');
    assert.equal((await closed(socket)).code, code);
  });

for (const [what, head] of [
  ['a wrong Sec-WebSocket-Accept', { 'Sec-WebSocket-Accept': 'wrong' }],
  ['an extension that was not offered', { 'Sec-WebSocket-Extensions': 'permessage-deflate' }],
  ['a subprotocol that was not offered', { 'Sec-WebSocket-Protocol': 'other' }],
])
  test(`${what} is no handshake`, async (t) => {
    const socket = await raw(t, [], head);
    socket.onopen = () => assert.fail('not open');
    assert.equal((await closed(socket)).code, 1006);
  });

test('a frame that arrives byte by byte, or with another one, is the same frame', async (t) => {
  const socket = await raw(t, [0x81, 2, 0x68, 0x69, 0x81, 1, 0x21, 0x88, 2, 3, 0xe8]);
  const received = [];
  socket.onmessage = ({ data }) => received.push(data);
  assert.deepEqual(await closed(socket), { code: 1000, reason: '', wasClean: true });
  assert.deepEqual(received, ['hi', '!']);
});
