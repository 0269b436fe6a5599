// Socket.IO with its Redis adapter: a room's events reach its members at every server.
//
//   node node_socketio_redis.mjs PORT REDIS_URL
import { createAdapter } from '@socket.io/redis-adapter';
import { createClient } from 'redis';
import { Server } from 'socket.io';

const pub = createClient({ url: process.argv[3] });
const sub = pub.duplicate();
await Promise.all([pub.connect(), sub.connect()]);

const io = new Server(Number(process.argv[2]), {
  transports: ['websocket'],
  serveClient: false,
  perMessageDeflate: false,
  adapter: createAdapter(pub, sub),
});

io.on('connection', (socket) => {
  socket.on('subscribe', (ids) => {
    socket.join(ids);
    socket.emit('subscribed', ids);
  });
  socket.on('publish', (id, event) => io.to(id).emit('new_message', { ...event, server_timestamp: Date.now() }));
});
