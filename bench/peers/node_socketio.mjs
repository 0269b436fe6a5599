// Socket.IO over WebSocket alone: rooms by group, `emit` to a room.
//
//   node node_socketio.mjs PORT
import { Server } from 'socket.io';

const io = new Server(Number(process.argv[2]), { transports: ['websocket'], serveClient: false, perMessageDeflate: false });

io.on('connection', (socket) => {
  socket.on('subscribe', (ids) => {
    socket.join(ids);
    socket.emit('subscribed', ids);
  });
  socket.on('publish', (id, event) => io.to(id).emit('new_message', { ...event, server_timestamp: Date.now() }));
});
