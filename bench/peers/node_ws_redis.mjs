// Node's ws with groups in a Map and Redis Pub/Sub between servers: each sends to Redis, and to its own what comes back.
//
//   node node_ws_redis.mjs PORT REDIS_URL
import { createClient } from 'redis';
import { WebSocketServer } from 'ws';

const pub = createClient({ url: process.argv[3] });
const sub = pub.duplicate();
await Promise.all([pub.connect(), sub.connect()]);

const groups = new Map();
const server = new WebSocketServer({ port: Number(process.argv[2]), perMessageDeflate: false });

server.on('connection', (socket) => {
  socket.on('message', async (text) => {
    const { type, data } = JSON.parse(text);
    if (type === 'subscribe') {
      for (const id of data.group_ids) {
        if (!groups.has(id)) {
          const listeners = new Set();
          groups.set(id, listeners);
          await sub.subscribe(`group:${id}`, (frame) => {
            for (const one of listeners) one.send(frame);
          });
        }
        groups.get(id).add(socket);
      }
      socket.send(JSON.stringify({ type: 'subscribed', data, server_timestamp: Date.now() }));
    } else if (type === 'publish') {
      pub.publish(`group:${data.conversation_id}`, JSON.stringify({ type: 'new_message', data, server_timestamp: Date.now() }));
    }
  });
});
