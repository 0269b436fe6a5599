/** A server of the tests' own: the protocol's rules, in memory, with handles to break them. */
import { createHash, randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import { WebSocketServer } from 'ws';

const sha = (text) => createHash('sha256').update(text).digest('base64url');

/** Groups with their frames, as stored: what outlives a restart. */
export class Log {
  groups = new Map();
  keys = new Map();

  /** @returns {string} A new group's id; its number 1 is there. */
  group() {
    const id = randomUUID();
    this.groups.set(id, []);
    this.append(id, 'member_joined', { group_id: id, user_id: 'u1', username: 'anna', joined_at: '2026-01-01T00:00:00Z' });
    return id;
  }

  append(
    id,
    type = 'new_message',
    data = { message_id: randomUUID(), conversation_id: id, encrypted_envelope: 'AAAA', server_timestamp: 1 },
  ) {
    const texts = this.groups.get(id);
    const seq = texts.length + 1;
    const prev = sha(texts.at(-1) ?? id);
    const text = `{"type":"${type}","data":${JSON.stringify(data)},"server_timestamp":${seq},"group_id":"${id}","seq":${seq},"prev":"${prev}"}`;
    texts.push(text);
    return text;
  }

  seqs(id) {
    return this.groups.get(id).map((_, i) => i + 1);
  }
}

export class FakeServer {
  /** Connections that are open: {socket, groups: Map<id, true>, frames: what the client sent}. */
  connections = new Set();
  /** When each handshake came, and each request: [method, path, body]. */
  handshakes = [];
  requests = [];
  /** Tokens that do not hold. */
  refused = new Set();
  /** What to do before the ordinary: return true when the request is answered. */
  intercept = () => false;
  /** Whether to write a frame to a client: for dropping and changing. */
  filter = (text) => [text];
  heartbeatSeconds = 30;
  tickets = new Map();
  hasTickets = true;
  /** Whether auth_success is sent, and subscribe answered. */
  silent = false;
  oldest = 1;
  delayMs = 0;

  constructor(log = new Log()) {
    this.log = log;
  }

  async listen(port = 0) {
    this.http = createServer((request, response) => this.#serve(request, response));
    this.wss = new WebSocketServer({ noServer: true });
    this.http.on('upgrade', (request, socket, head) => this.#upgrade(request, socket, head));
    await new Promise((resolve) => this.http.listen(port, '127.0.0.1', resolve));
    this.port = this.http.address().port;
    this.url = `http://127.0.0.1:${this.port}`;
    return this;
  }

  /** Go away at once, as a killed process does. */
  async kill() {
    for (const { socket } of this.connections) socket.terminate();
    this.http.closeAllConnections();
    await new Promise((resolve) => this.http.close(resolve));
    this.connections.clear();
  }

  /** Store an event and send it to every subscriber. */
  post(id, type, data) {
    const text = this.log.append(id, type, data);
    for (const connection of this.connections) if (connection.groups.has(id)) this.write(connection, text);
    return text;
  }

  write(connection, text) {
    for (const out of this.filter(text, connection)) connection.socket.send(out);
  }

  sendFrame(connection, type, data, more = {}) {
    connection.socket.send(JSON.stringify({ type, data, server_timestamp: 1, ...more }));
  }

  /** Cut every line. */
  cut(code) {
    for (const { socket } of this.connections) code ? socket.close(code, 'cut') : socket.terminate();
  }

  #answer(response, status, body, headers = {}) {
    response.writeHead(status, { 'Content-Type': 'application/json', ...headers });
    response.end(body === undefined ? '' : JSON.stringify(body));
  }

  async #serve(request, response) {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const raw = Buffer.concat(chunks);
    const url = new URL(request.url, this.url);
    const json = (request.headers['content-type'] ?? '').startsWith('application/json');
    const body = json ? JSON.parse(raw.toString()) : raw;
    const call = { method: request.method, path: url.pathname, query: url.searchParams, body, headers: request.headers, at: Date.now() };
    this.requests.push(call);
    if (this.delayMs) await new Promise((resolve) => setTimeout(resolve, this.delayMs));
    const answer = (status, content, headers) => (this.#answer(response, status, content, headers), true);
    if (await this.intercept(call, answer, response)) return;
    const token = (request.headers.authorization ?? '').replace('Bearer ', '');
    if (!token || this.refused.has(token)) return answer(401, { error: 'UNAUTHORIZED', message: 'no', details: {} });
    if (url.pathname === '/api/ws-ticket' && this.hasTickets) {
      const ticket = randomUUID();
      this.tickets.set(ticket, token);
      return answer(200, { ticket, expires_in: 30 });
    }
    if (url.pathname === '/v1/events') {
      const texts = this.log.groups.get(url.searchParams.get('group_id'));
      const after = Number(url.searchParams.get('after_seq') ?? 0);
      if (!texts) return answer(404, { error: 'NOT_FOUND', message: 'no such group', details: {} });
      if (after + 1 < this.oldest) return answer(410, { error: 'GONE', message: 'gone', details: { oldest_seq: this.oldest } });
      const page = texts.slice(after, after + Number(url.searchParams.get('limit') ?? 100));
      response.writeHead(200, { 'Content-Type': 'application/x-ndjson' });
      return response.end(page.map((text) => `${text}\n`).join(''));
    }
    const emits =
      { '/v1/messages': 'new_message', '/api/threads': 'new_thread' }[url.pathname] ?? (/replies$/.test(url.pathname) ? 'new_reply' : null);
    if (emits && request.method === 'POST') {
      const key = request.headers['idempotency-key'];
      const done = this.log.keys.get(key);
      if (done) return answer(200, done);
      const group = body.conversation_id ?? body.group_id ?? this.groupOfReplies;
      const made = randomUUID();
      const content = {
        message_id: made,
        thread_id: made,
        reply_id: made,
        server_timestamp: 1,
        seq: this.log.groups.get(group).length + 1,
        draft: body,
      };
      if (key) this.log.keys.set(key, content);
      this.post(group, emits, { ...body, message_id: content.message_id });
      return answer(200, content);
    }
    answer(404, { error: 'NOT_FOUND', message: 'no such path', details: {} });
  }

  #upgrade(request, socket, head) {
    const url = new URL(request.url, this.url);
    const offered = (request.headers['sec-websocket-protocol'] ?? '').split(/, */);
    const token =
      this.tickets.get(url.searchParams.get('ticket')) ??
      offered.find((one) => one.startsWith('bearer.'))?.slice(7) ??
      url.searchParams.get('token');
    this.handshakes.push({ at: Date.now(), token, ticket: url.searchParams.has('ticket'), query: url.searchParams.has('token'), offered });
    socket.on('error', () => {});
    if (!token || this.refused.has(token)) return socket.end('HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n');
    this.wss.handleUpgrade(request, socket, head, (ws) => {
      const connection = { socket: ws, groups: new Map(), frames: [], token };
      this.connections.add(connection);
      ws.on('close', () => this.connections.delete(connection));
      ws.on('error', () => {});
      ws.on('message', (bytes) => this.#received(connection, JSON.parse(bytes.toString())));
      if (this.silent) return;
      this.onOpen?.(connection);
      this.sendFrame(connection, 'auth_success', {
        user_id: 'u1',
        username: 'anna',
        connected_at: '2026-01-01T00:00:00Z',
        heartbeat_seconds: this.heartbeatSeconds,
      });
    });
  }

  #received(connection, frame) {
    connection.frames.push(frame);
    this.onFrame?.(connection, frame);
    if (this.silent) return;
    if (frame.type === 'subscribe') {
      const ids = frame.data.group_ids.filter((id) => this.log.groups.has(id));
      const forbidden = frame.data.group_ids.filter((id) => !this.log.groups.has(id));
      const groups = {};
      const replays = [];
      for (const id of ids) {
        const texts = this.log.groups.get(id);
        const since = frame.data.since?.[id];
        groups[id] = { seq: texts.length };
        connection.groups.set(id, true);
        if (since === undefined) continue;
        const { seq, hash } = typeof since === 'number' ? { seq: since } : since;
        const recovered = seq <= texts.length && seq + 1 >= this.oldest && (!hash || hash === sha(texts[seq - 1] ?? id));
        groups[id].recovered = recovered;
        if (recovered) replays.push(...texts.slice(seq));
      }
      this.sendFrame(connection, 'subscribed', { group_ids: ids, subscribed_at: '2026-01-01T00:00:00Z', groups });
      if (forbidden.length) this.sendFrame(connection, 'error', { code: 'FORBIDDEN', message: 'not yours', group_ids: forbidden });
      for (const text of replays) this.write(connection, text);
    } else if (frame.type === 'unsubscribe') {
      for (const id of frame.data.group_ids) connection.groups.delete(id);
      this.sendFrame(connection, 'unsubscribed', { group_ids: frame.data.group_ids, reason: 'requested' });
    } else if (frame.type === 'typing_indicator') {
      for (const other of this.connections)
        if (other !== connection) this.sendFrame(other, 'typing_indicator', { ...frame.data, user_id: 'u2', username: 'ben' });
    }
  }
}

/** Wait for a fact, looked at after each turn of the loop. */
export async function until(fact, what = String(fact), ms = 120_000) {
  const end = performance.now() + ms;
  for (let value; ; ) {
    if ((value = await fact())) return value;
    if (performance.now() > end) throw new Error(`it did not become true within ${ms} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

/** Waits of a hundredth, for tests of what follows them. */
export const FAST = { steps_ms: [10, 20, 40, 80, 160, 320], jitter_ms: 20, attempts: 5, window_ms: 100 };

/** Let every wait of the test be so many times shorter. */
export function hurry(t, times) {
  const { setTimeout } = globalThis;
  globalThis.setTimeout = (then, ms = 0, ...args) => setTimeout(then, ms / times, ...args);
  t.after(() => (globalThis.setTimeout = setTimeout));
}
