/** A WebSocket client (RFC 6455) on Node's own http, for Node 20, which has none of its own. Node's is used where there is one. */
import { createHash, randomBytes } from 'node:crypto';
import { request as http } from 'node:http';
import { request as https } from 'node:https';
import { after } from './timers.js';

/** RFC 6455 §1.3. */
const GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';
/** Far beyond any frame of Orbital (an envelope of 256 KiB); a peer that announces more is not one. */
const MAX_MESSAGE_BYTES = 16 * 1024 * 1024;
/** For the peer's close frame, before the connection is cut. */
const CLOSE_TIMEOUT_MS = 3000;

/** @typedef {{data: string | Uint8Array}} MessageEventLike */
/** @typedef {{code: number, reason: string, wasClean: boolean}} CloseEventLike */

/**
 * What the browser's class of that name does, as far as this library uses it: text frames, `onopen`, `onmessage`, `onclose`, `onerror`,
 * `send`, `close`. It offers no extension.
 */
export class NodeWebSocket {
  /** 0 connecting, 1 open, 2 closing, 3 closed. */
  readyState = 0;
  /** The subprotocol that the server chose. */
  protocol = '';
  /** @type {((event: object) => void) | null} */
  onopen = null;
  /** @type {((event: MessageEventLike) => void) | null} */
  onmessage = null;
  /** @type {((event: CloseEventLike) => void) | null} */
  onclose = null;
  /** @type {((event: {message: string}) => void) | null} */
  onerror = null;

  #request;
  /** @type {import('node:stream').Duplex | undefined} */
  #socket;
  /** @type {Buffer[]} Arrived, and not yet a whole frame. */
  #pieces = [];
  #size = 0;
  /** @type {Buffer[]} Fragments of a message. */
  #fragments = [];
  #fragmented = 0;
  #opcode = 0;
  #code = 1006;
  #reason = '';
  #clean = false;
  /** @type {any} */
  #timer;

  /**
   * @param {string | URL} url `ws://` or `wss://`
   * @param {string | string[]} [protocols]
   */
  constructor(url, protocols = []) {
    const target = new URL(url);
    const secure = target.protocol === 'wss:';
    if (!secure && target.protocol !== 'ws:')
      throw new SyntaxError(`a WebSocket's address begins with ws:// or wss://, not ${target.protocol}`);
    const offered = [protocols].flat();
    const key = randomBytes(16).toString('base64');
    target.protocol = secure ? 'https:' : 'http:';
    this.#request = (secure ? https : http)(target, {
      headers: {
        Connection: 'Upgrade',
        Upgrade: 'websocket',
        'Sec-WebSocket-Version': '13',
        'Sec-WebSocket-Key': key,
        ...(offered.length && { 'Sec-WebSocket-Protocol': offered.join(', ') }),
      },
    });
    this.#request.on('error', (error) => this.#ended(error.message));
    this.#request.on('response', (response) => {
      response.resume();
      this.#ended(`the server answered ${response.statusCode} instead of 101`);
      this.#request.destroy();
    });
    this.#request.on('upgrade', (response, socket, head) => {
      const { headers } = response;
      const accept = createHash('sha1')
        .update(key + GUID)
        .digest('base64');
      const protocol = headers['sec-websocket-protocol'] ?? '';
      // RFC 6455 §4.1: the client fails the connection when any of these is not so.
      const right =
        headers['sec-websocket-accept'] === accept &&
        headers.upgrade?.toLowerCase() === 'websocket' &&
        !headers['sec-websocket-extensions'] &&
        (!protocol || offered.includes(protocol));
      if (!right || this.readyState !== 0) {
        socket.destroy();
        this.#ended('the handshake is not one of RFC 6455');
        return;
      }
      this.#socket = socket;
      this.protocol = protocol;
      this.readyState = 1;
      /** @type {import('node:net').Socket} */ (socket).setNoDelay?.(true);
      socket.on('data', (bytes) => this.#arrived(bytes));
      socket.on('error', () => socket.destroy());
      socket.on('end', () => socket.end());
      socket.on('close', () => this.#ended(''));
      this.onopen?.({ type: 'open' });
      if (head.length) this.#arrived(head);
    });
    this.#request.end();
  }

  /** @param {string} text */
  send(text) {
    if (this.readyState === 0) throw new Error('the WebSocket is not open yet');
    if (this.readyState === 1) this.#write(1, Buffer.from(text));
  }

  /**
   * @param {number} [code] 1000, or 3000 to 4999.
   * @param {string} [reason] At most 123 bytes of UTF-8.
   */
  close(code = 1000, reason = '') {
    if (code !== 1000 && !(code >= 3000 && code <= 4999)) throw new RangeError(`a client may not close with code ${code}`);
    if (this.readyState > 1) return;
    if (this.readyState === 0) {
      this.#request.destroy();
      this.#ended('closed before it was open');
      return;
    }
    this.#sayClose(code, reason);
  }

  /**
   * @param {number} code
   * @param {string} reason
   */
  #sayClose(code, reason) {
    if (this.readyState !== 1) return;
    const body = Buffer.from(`\0\0${reason}`);
    body.writeUInt16BE(code);
    this.#write(8, body);
    this.readyState = 2;
    this.#timer = after(CLOSE_TIMEOUT_MS, () => this.#socket?.destroy());
  }

  /**
   * Close with the code for what the peer did wrong, and read no more of it (RFC 6455 §7.1.7).
   *
   * @param {number} code
   * @param {string} reason
   */
  #fail(code, reason) {
    this.#sayClose(code, reason);
    this.#code = code;
    this.#reason = reason;
    this.#pieces = [];
    this.#socket?.removeAllListeners('data');
    this.#socket?.destroy();
  }

  /** @param {Buffer} bytes */
  #arrived(bytes) {
    this.#pieces.push(bytes);
    this.#size += bytes.length;
    while (this.#frame());
  }

  /** @param {number} count @returns {Buffer} The first `count` of the bytes that arrived. */
  #peek(count) {
    if (/** @type {Buffer} */ (this.#pieces[0]).length < count) this.#pieces = [Buffer.concat(this.#pieces)];
    return /** @type {Buffer} */ (this.#pieces[0]);
  }

  /** Take one frame. @returns {boolean} Whether there was a whole one. */
  #frame() {
    if (this.#size < 2 || this.readyState > 2 || this.#clean) return false;
    let head = this.#peek(2);
    const first = head.readUInt8(0);
    const second = head.readUInt8(1);
    const final = first > 127;
    const opcode = first & 15;
    // RFC 6455 §5.2: nothing was negotiated for the reserved bits; §5.1: a server does not mask.
    if (first & 112 || second > 127) return (this.#fail(1002, 'a reserved bit or a mask'), false);
    let length = second;
    let start = 2;
    if (length > 125) {
      start = length === 126 ? 4 : 10;
      if (this.#size < start) return false;
      head = this.#peek(start);
      length = start === 4 ? head.readUInt16BE(2) : Number(head.readBigUInt64BE(2));
    }
    if (length + this.#fragmented > MAX_MESSAGE_BYTES) return (this.#fail(1009, 'a message too long'), false);
    if (this.#size < start + length) return false;
    const all = this.#peek(start + length);
    const body = all.subarray(start, start + length);
    this.#pieces = [all.subarray(start + length)];
    this.#size -= start + length;
    if (opcode > 7) return this.#control(opcode, final, body);
    // RFC 6455 §5.4: a continuation continues something, and nothing else begins meanwhile.
    if (opcode > 2 || (opcode === 0) !== this.#opcode > 0) return (this.#fail(1002, 'a frame out of place'), false);
    if (opcode) this.#opcode = opcode;
    this.#fragments.push(body);
    this.#fragmented += length;
    if (final) {
      const message = Buffer.concat(this.#fragments);
      const text = this.#opcode === 1;
      this.#fragments = [];
      this.#fragmented = this.#opcode = 0;
      let data;
      try {
        data = text ? new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(message) : message;
      } catch {
        return (this.#fail(1007, 'text that is not UTF-8'), false);
      }
      if (this.readyState === 1) this.onmessage?.({ data });
    }
    return true;
  }

  /**
   * @param {number} opcode
   * @param {boolean} final
   * @param {Buffer} body
   * @returns {boolean} Whether to go on.
   */
  #control(opcode, final, body) {
    if (!final || body.length > 125 || opcode > 10) return (this.#fail(1002, 'a control frame out of form'), false);
    if (opcode === 9) this.#write(10, body);
    if (opcode !== 8) return true;
    this.#clean = true;
    this.#code = body.length > 1 ? body.readUInt16BE(0) : 1005;
    this.#reason = body.subarray(2).toString();
    if (this.readyState === 1) this.#sayClose(this.#code === 1005 ? 1000 : this.#code, '');
    this.#socket?.end();
    return false;
  }

  /**
   * @param {number} opcode
   * @param {Buffer} body
   */
  #write(opcode, body) {
    if (!this.#socket || this.readyState !== 1) return;
    const long = body.length > 65535 ? 8 : body.length > 125 ? 2 : 0;
    const head = Buffer.alloc(2 + long);
    head.writeUInt8(128 | opcode, 0);
    head.writeUInt8(128 | (long === 8 ? 127 : long === 2 ? 126 : body.length), 1);
    if (long === 8) head.writeBigUInt64BE(BigInt(body.length), 2);
    else if (long) head.writeUInt16BE(body.length, 2);
    // RFC 6455 §5.3: a new mask for each frame, that nobody can foretell.
    const mask = randomBytes(4);
    const masked = Buffer.from(body);
    for (let i = 0; i < masked.length; i++) masked.writeUInt8(masked.readUInt8(i) ^ mask.readUInt8(i & 3), i);
    this.#socket.write(Buffer.concat([head, mask, masked]));
  }

  /** @param {string} why */
  #ended(why) {
    if (this.readyState === 3) return;
    this.readyState = 3;
    clearTimeout(this.#timer);
    this.#pieces = this.#fragments = [];
    if (why) this.onerror?.({ message: why });
    // As the browser does: after the call that caused it.
    queueMicrotask(() => this.onclose?.({ code: this.#code, reason: this.#reason, wasClean: this.#clean }));
  }
}
