// The published design whole: Express and pg for POST /v1/messages, `ws` beside it, each client's list searched.
//
//   DATABASE_URL=… JWT_SECRET=… node node_express.mjs PORT
//
// A POST is answered once its row is committed; membership is asked of the database each time.
import { createServer } from 'node:http';
import { randomUUID } from 'node:crypto';
import express from 'express';
import jwt from 'jsonwebtoken';
import pg from 'pg';
import { WebSocket, WebSocketServer } from 'ws';

const secret = process.env.JWT_SECRET;
const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 20 });
const app = express();
const server = createServer(app);
const sockets = new WebSocketServer({ noServer: true, perMessageDeflate: false });

await pool.query(`
  CREATE TABLE IF NOT EXISTS members (group_id text, user_id text, PRIMARY KEY (group_id, user_id));
  CREATE TABLE IF NOT EXISTS messages (
    message_id uuid PRIMARY KEY, conversation_id text NOT NULL, sender_id text NOT NULL,
    encrypted_envelope text NOT NULL, server_timestamp bigint NOT NULL);
  CREATE INDEX IF NOT EXISTS messages_by_time ON messages (server_timestamp);
`);

function whoIs(header) {
  return jwt.verify((header ?? '').slice('Bearer '.length), secret, { algorithms: ['HS256'] });
}

function authenticated(request, response, next) {
  try {
    request.user = whoIs(request.headers.authorization);
  } catch {
    response.status(401).json({ error: 'UNAUTHORIZED' });
    return;
  }
  next();
}

function publish(id, event) {
  for (const client of sockets.clients) {
    if (client.groups.includes(id) && client.readyState === WebSocket.OPEN) {
      client.send(JSON.stringify({ ...event, server_timestamp: Date.now() }));
    }
  }
}

app.use(express.json({ limit: '512kb' }));

app.post('/v1/messages', authenticated, async (request, response) => {
  const { conversation_id, encrypted_envelope } = request.body;
  if (typeof conversation_id !== 'string' || typeof encrypted_envelope !== 'string') {
    response.status(400).json({ error: 'VALIDATION_ERROR' });
    return;
  }
  const member = await pool.query({
    name: 'member',
    text: 'SELECT 1 FROM members WHERE group_id = $1 AND user_id = $2',
    values: [conversation_id, request.user.userId],
  });
  if (member.rowCount === 0) {
    response.status(403).json({ error: 'FORBIDDEN' });
    return;
  }
  const message_id = randomUUID();
  const server_timestamp = Date.now();
  await pool.query({
    name: 'store',
    text: 'INSERT INTO messages VALUES ($1, $2, $3, $4, $5)',
    values: [message_id, conversation_id, request.user.userId, encrypted_envelope, server_timestamp],
  });
  response.json({ message_id, server_timestamp });
  publish(conversation_id, { type: 'new_message', data: { message_id, conversation_id, encrypted_envelope, server_timestamp } });
});

app.get('/v1/messages', authenticated, async (request, response) => {
  const limit = Math.min(Number(request.query.limit ?? 100), 500);
  const { rows } = await pool.query({
    name: 'page',
    text: `SELECT message_id, conversation_id, encrypted_envelope, server_timestamp FROM messages
           WHERE conversation_id IN (SELECT group_id FROM members WHERE user_id = $1) AND server_timestamp > $2
           ORDER BY server_timestamp LIMIT $3`,
    values: [request.user.userId, Number(request.query.since ?? 0), limit + 1],
  });
  response.json({ messages: rows.slice(0, limit), has_more: rows.length > limit });
});

server.on('upgrade', (request, socket, head) => {
  try {
    request.user = whoIs(request.headers.authorization);
  } catch {
    socket.end('HTTP/1.1 401 Unauthorized\r\n\r\n');
    return;
  }
  sockets.handleUpgrade(request, socket, head, (client) => sockets.emit('connection', client, request));
});

sockets.on('connection', (client, request) => {
  client.groups = [];
  client.on('message', (bytes) => {
    const message = JSON.parse(bytes);
    if (message.type !== 'subscribe') return;
    client.groups = message.data.group_ids;
    client.send(JSON.stringify({ type: 'subscribed', data: { group_ids: client.groups }, server_timestamp: Date.now() }));
  });
  client.on('error', () => client.terminate());
  client.send(JSON.stringify({ type: 'auth_success', data: { user_id: request.user.userId }, server_timestamp: Date.now() }));
});

server.listen({ port: Number(process.argv[2]), host: '127.0.0.1', backlog: 4096 });
