/** Records the frames and requests between this page and the server. */
import { Chain } from '/sdk/chain.js';

/** Frames that are kept for display. */
const KEPT = 150;
/** Sent as a frame's id; its answer gives the latency. */
const PROBE = 'latency';

/**
 * @typedef {object} Seen
 * @property {number} number
 * @property {'in' | 'out'} way Seen from the page.
 * @property {string} type The frame's type, or the request's method and path.
 * @property {string} text
 * @property {number} atMs
 * @property {number | undefined} [seq]
 * @property {boolean | undefined} [chained] Whether its `prev` is the hash of the frame before; undefined when that one was not seen.
 */

/** A recorder stands between the SDK and the network. It changes nothing. */
export class Recorder extends EventTarget {
  /** @type {Seen[]} Oldest first. */
  frames = [];
  opened = 0;
  /** Frames whose hash was checked, and those whose hash was wrong. */
  checked = 0;
  broken = 0;
  /** @type {number | undefined} */
  latencyMs;
  /** @type {WebSocket | undefined} */
  #socket;
  #count = 0;
  #probedAt = 0;
  /** @type {Map<string, {seq: number, chain: Chain}>} */
  #chains = new Map();

  /** A class for the SDK's `WebSocket`. */
  get WebSocket() {
    const recorder = this;
    return class extends WebSocket {
      /** @param {string} url @param {string[]} [protocols] */
      constructor(url, protocols) {
        super(url, protocols);
        recorder.#socket = this;
        this.addEventListener('open', () => {
          recorder.opened++;
          recorder.#note('in', 'connected', new URL(url).pathname);
        });
        this.addEventListener('message', ({ data }) => recorder.#received(String(data)));
        this.addEventListener('close', ({ code, reason }) => recorder.#note('in', 'disconnected', `${code} ${reason}`));
      }

      /** @param {string} text @override */
      send(text) {
        const { type, id } = JSON.parse(text);
        // The page's own latency probes are not shown.
        if (id !== PROBE) recorder.#note('out', type, text);
        super.send(text);
      }
    };
  }

  /** For the SDK's `fetch`. @param {RequestInfo | URL} address @param {RequestInit} [init] */
  fetch = async (address, init) => {
    const { pathname } = new URL(String(address));
    const { method = 'GET', body } = init ?? {};
    // Passwords are never shown.
    const secret = /\/(login|signup)$/.test(pathname);
    const shown = secret
      ? '(name and password)'
      : typeof body === 'string'
        ? body
        : body instanceof FormData
          ? `${body.get('chunk') instanceof Blob ? /** @type {Blob} */ (body.get('chunk')).size : 0} bytes of ciphertext`
          : '';
    if (method !== 'GET') this.#note('out', `${method} ${pathname}`, shown);
    return globalThis.fetch(address, init);
  };

  get connected() {
    return this.#socket?.readyState === WebSocket.OPEN;
  }

  /** Drop the connection, as a bad network would; the SDK reconnects. */
  drop() {
    const socket = this.#socket;
    if (!socket) return;
    const { onclose } = socket;
    socket.onclose = socket.onmessage = null;
    socket.close(4000, 'dropped by hand');
    // A connection that breaks does not wait for the server's Close frame.
    onclose?.call(socket, new CloseEvent('close', { code: 4000, reason: 'dropped by hand' }));
  }

  /** Measure the round trip to the server. */
  probe() {
    if (!this.connected) return;
    this.#probedAt = performance.now();
    this.#socket?.send(JSON.stringify({ type: 'subscribe', data: { group_ids: [] }, id: PROBE }));
  }

  /** @param {string} text */
  #received(text) {
    /** @type {any} */
    let frame = {};
    try {
      frame = JSON.parse(text);
    } catch {
      // The SDK reports an invalid frame; here it is only displayed.
    }
    if (frame.reply_to === PROBE) {
      this.latencyMs = performance.now() - this.#probedAt;
      return void this.dispatchEvent(new Event('seen'));
    }
    this.#note('in', String(frame.type), text, frame.seq, this.#check(frame, text));
  }

  /** @param {{group_id?: string, seq?: number}} frame @param {string} text */
  #check({ group_id, seq }, text) {
    if (!group_id || !seq) return undefined;
    const last = this.#chains.get(group_id);
    const known = last?.seq === seq - 1;
    const chain = known ? last.chain : new Chain();
    const fits = chain.offer(text);
    this.#chains.set(group_id, { seq, chain: fits ? chain : new Chain() });
    if (!known) return undefined;
    this.checked++;
    if (!fits) this.broken++;
    return fits;
  }

  /**
   * @param {'in' | 'out'} way
   * @param {string} type
   * @param {string} text
   * @param {number} [seq]
   * @param {boolean} [chained]
   */
  #note(way, type, text, seq, chained) {
    this.frames.push({ number: ++this.#count, way, type, text, atMs: Date.now(), seq, chained });
    if (this.frames.length > KEPT) this.frames.shift();
    this.dispatchEvent(new Event('seen'));
  }
}
