/** The entry for Node: the same names, and a WebSocket where the platform has none (before Node 22). */
import { NodeWebSocket } from './node-websocket.js';
import { platform } from './socket.js';

platform.WebSocket = NodeWebSocket;

export * from './index.js';
