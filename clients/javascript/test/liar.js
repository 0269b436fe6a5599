/** A proxy before the real server that lies to one client: about a group's log, and in answers. */
import { createServer, request as send } from 'node:http';
import { WebSocket, WebSocketServer } from 'ws';

/** Headers of one hop, or of a body that was changed. */
const HOP = new Set([
  'connection',
  'content-length',
  'content-encoding',
  'transfer-encoding',
  'keep-alive',
  'upgrade',
  'accept-encoding',
  'host',
]);
const passed = (headers) =>
  Object.fromEntries(Object.entries(headers).filter(([name]) => !HOP.has(name) && !name.startsWith('sec-websocket-')));

export class LyingProxy {
  /** Group ids with the texts of the log that clients are shown instead of the server's. @type {Map<string, string[]>} */
  forged = new Map();
  /** Answer a request in the server's place: `[status, body]`, or undefined to pass it on. */
  answer = (_call) => undefined;
  /** Change the JSON of an answer of the server. */
  change = (_path, body) => body;
  /** Change what the server says of a group at `subscribed`. */
  stands = (_group, where) => where;

  constructor(port) {
    this.target = { host: '127.0.0.1', port };
    this.sockets = new Set();
  }

  async listen() {
    this.http = createServer((request, response) => void this.#serve(request, response).catch((error) => response.destroy(error)));
    this.wss = new WebSocketServer({ noServer: true, handleProtocols: (offered) => [...offered][0] });
    // tests/support/frames.py does not check what such a server sends.
    this.wss.on('headers', (headers) => headers.push('Server: a fake of the tests'));
    this.http.on('upgrade', (request, socket, head) => this.#upgrade(request, socket, head));
    await new Promise((resolve) => this.http.listen(0, '127.0.0.1', resolve));
    this.port = this.http.address().port;
    this.url = `http://127.0.0.1:${this.port}`;
    return this;
  }

  async close() {
    for (const socket of this.sockets) socket.terminate();
    this.http.closeAllConnections();
    await new Promise((resolve) => this.http.close(resolve));
  }

  async #serve(request, response) {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const raw = Buffer.concat(chunks);
    const url = new URL(request.url, this.url);
    const json = (request.headers['content-type'] ?? '').startsWith('application/json');
    const call = { method: request.method, path: url.pathname, body: json ? JSON.parse(raw.toString()) : raw };
    const own = this.answer(call);
    if (own) return this.#end(response, own[0], { 'content-type': 'application/json' }, JSON.stringify(own[1]));
    const [status, headers, body] = await this.#ask(request, raw);
    const texts = url.pathname === '/v1/events' && this.forged.get(url.searchParams.get('group_id') ?? '');
    if (texts) {
      const after = Number(url.searchParams.get('after_seq'));
      const page = texts.slice(after, after + Number(url.searchParams.get('limit') ?? 100));
      const where = { 'x-last-seq': String(texts.length), 'x-has-more': String(after + page.length < texts.length) };
      return this.#end(response, 200, { ...headers, ...where }, page.map((text) => `${text}\n`).join(''));
    }
    const changed = (headers['content-type'] ?? '').startsWith('application/json') && body.length > 0;
    this.#end(response, status, headers, changed ? JSON.stringify(this.change(url.pathname, JSON.parse(body.toString()))) : body);
  }

  #ask(request, raw) {
    return new Promise((resolve, reject) => {
      const { method, url: path } = request;
      const asked = send({ ...this.target, method, path, headers: passed(request.headers) }, async (answer) => {
        const chunks = [];
        for await (const chunk of answer) chunks.push(chunk);
        resolve([answer.statusCode, passed(answer.headers), Buffer.concat(chunks)]);
      });
      asked.on('error', reject).end(raw);
    });
  }

  #end(response, status, headers, body) {
    response.writeHead(status, headers).end(body);
  }

  #upgrade(request, socket, head) {
    const offered = (request.headers['sec-websocket-protocol'] ?? '').split(/, */).filter(Boolean);
    const server = new WebSocket(`ws://127.0.0.1:${this.target.port}${request.url}`, offered, { headers: passed(request.headers) });
    server.on('error', () => socket.destroy());
    server.on('open', () =>
      this.wss.handleUpgrade(request, socket, head, (client) => {
        for (const [one, other] of [
          [client, server],
          [server, client],
        ]) {
          this.sockets.add(one);
          one.on('close', (code, reason) => {
            this.sockets.delete(one);
            // 1005 and 1006 stand for a close without a code, and are not sent.
            if (code === 1005 || code === 1006) other.terminate();
            else other.close(code, reason);
          });
          one.on('error', () => other.terminate());
        }
        client.on('message', (bytes) => server.send(bytes.toString()));
        for (const text of early.splice(0)) this.#show(client, text);
        server.removeAllListeners('message').on('message', (bytes) => this.#show(client, bytes.toString()));
      }),
    );
    const early = [];
    server.on('message', (bytes) => early.push(bytes.toString()));
  }

  /** Send a client what it is shown of a frame of the server. */
  #show(client, text) {
    const frame = JSON.parse(text);
    if (frame.type === 'subscribed') {
      for (const [group, where] of Object.entries(frame.data.groups)) {
        const texts = this.forged.get(group);
        frame.data.groups[group] = this.stands(group, texts ? { ...where, seq: texts.length } : where);
      }
      return client.send(JSON.stringify(frame));
    }
    const texts = this.forged.get(frame.group_id);
    if (!texts || frame.seq === undefined) return client.send(text);
    if (frame.seq <= texts.length) client.send(texts[frame.seq - 1]);
    // The server's last event, and the forged log is longer.
    if (frame.seq === this.lastSeq) for (const more of texts.slice(frame.seq)) client.send(more);
  }
}
