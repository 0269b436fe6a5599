// Node `ws`, twice.
//
//   node node_ws.mjs PORT search   every client's own list is searched for each event, and the event is made into text for each client
//   node node_ws.mjs PORT map      listeners are in a Map by group, and the text is made once for all of them
//
// Both check the token at the handshake and ping every 30 s, as a server of this protocol must. An event comes from a
// publisher's socket: {"type":"publish","group_id":…,"event":{…}}.
import { createServer } from 'node:http';
import jwt from 'jsonwebtoken';
import { WebSocket, WebSocketServer } from 'ws';

const [port, way] = process.argv.slice(2);
const secret = process.env.JWT_SECRET;
const server = createServer((_request, response) => response.writeHead(404).end());
const sockets = new WebSocketServer({ noServer: true, perMessageDeflate: false });
const groups = new Map();

server.on('upgrade', (request, socket, head) => {
  try {
    request.user = jwt.verify((request.headers.authorization ?? '').slice('Bearer '.length), secret, { algorithms: ['HS256'] });
  } catch {
    socket.end('HTTP/1.1 401 Unauthorized\r\n\r\n');
    return;
  }
  sockets.handleUpgrade(request, socket, head, (client) => sockets.emit('connection', client, request));
});

const say = (client, type, data) => client.send(JSON.stringify({ type, data, server_timestamp: Date.now() }));

function subscribe(client, ids) {
  client.groups = ids;
  if (way === 'map') {
    for (const id of ids) {
      if (!groups.has(id)) groups.set(id, new Set());
      groups.get(id).add(client);
    }
  }
  say(client, 'subscribed', { group_ids: ids, subscribed_at: new Date().toISOString() });
}

function publish(id, event) {
  if (way === 'map') {
    const text = JSON.stringify({ ...event, server_timestamp: Date.now() });
    for (const client of groups.get(id) ?? []) if (client.readyState === WebSocket.OPEN) client.send(text);
    return;
  }
  for (const client of sockets.clients) {
    if (client.groups.includes(id) && client.readyState === WebSocket.OPEN) {
      client.send(JSON.stringify({ ...event, server_timestamp: Date.now() }));
    }
  }
}

sockets.on('connection', (client, request) => {
  client.groups = [];
  client.alive = true;
  client.on('message', (bytes) => {
    const message = JSON.parse(bytes);
    if (message.type === 'publish') publish(message.group_id, message.event);
    else if (message.type === 'subscribe') subscribe(client, message.data.group_ids);
    else if (message.type === 'pong') client.alive = true;
  });
  client.on('close', () => client.groups.forEach((id) => void groups.get(id)?.delete(client)));
  client.on('error', () => client.terminate());
  say(client, 'auth_success', { user_id: request.user.userId, username: request.user.username, connected_at: new Date().toISOString() });
});

setInterval(() => {
  for (const client of sockets.clients) {
    if (!client.alive) {
      client.terminate();
      continue;
    }
    client.alive = false;
    say(client, 'ping', { server_time: Date.now() });
  }
}, 30_000);

server.listen({ port: Number(port), host: '127.0.0.1', backlog: 4096 });
