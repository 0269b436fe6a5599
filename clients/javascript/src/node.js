/** The entry for Node: the same names, and a WebSocket where the platform has none (before Node 22). */
import { platform } from './connection.js';
import { NodeWebSocket } from './node-websocket.js';

platform.WebSocket = NodeWebSocket;

export * from './index.js';
