/** The machine: one socket at a time, opened again whenever it is lost, as fast as the rules allow and no faster. */
import { BACKOFF, delayMs, wakeMs } from './backoff.js';
import { OrbitalError, wrap } from './errors.js';
import { makeFrame, pong, readFrame } from './wire.js';

/** @import {BackoffNumbers} from './backoff.js' */
/** @import {Http} from './http.js' */
/** @import {AuthSuccess, Reading} from './wire.js' */

/** From the start of an attempt to `auth_success`. A phone's radio wakes up in 2 s, a bad line shakes hands in 5. */
export const CONNECT_TIMEOUT_MS = 15_000;
/** For the answer to `subscribe`. Without one the server cannot hear us, whatever else arrives. */
export const ANSWER_TIMEOUT_MS = 10_000;
/** For the answer of a socket that may only look open, after the page was shown or the network returned. */
export const PROBE_TIMEOUT_MS = 3_000;
/** How late a ping may be before the line counts as dead. */
export const SLACK_MS = 10_000;
/** Between pings, when the server does not say. */
export const HEARTBEAT_MS = 30_000;

/** A socket was refused or cut for good by the server (RFC 6455 §7.4.1). */
const POLICY_VIOLATION = 1008;
/** A socket ended without saying why. */
const ABNORMAL = 1006;

/**
 * Where the connection stands.
 *
 * - `connecting`: it is being opened, or the next attempt waits; `code` and `reason` tell why the last one ended,
 *   `retry_at` when the next one begins.
 * - `open`: the server has accepted us.
 * - `closed`: nothing happens until `connect()`. With code 1008 the token was refused, or this client was: look at `reason`.
 *
 * @typedef {object} ConnectionState
 * @property {'connecting' | 'open' | 'closed'} status
 * @property {number} [code] Of the last ending: a WebSocket close code; 1006 for a line that broke or was never there.
 * @property {string} [reason] Of the last ending, for a person.
 * @property {number} [retry_at] When the next attempt begins, in milliseconds since the Unix epoch.
 */

/**
 * How the token reaches the server.
 *
 * - `ticket`: asked for over HTTP before each attempt, so that a refusal can be read; falls back to `query` on a server
 *   that has no tickets, and to `protocol` where the page's origin may not ask.
 * - `protocol`: as a subprotocol.
 * - `query`: as `?token=`, as the first clients did; the token stands in the address.
 *
 * @typedef {'ticket' | 'protocol' | 'query'} Handshake
 */

/**
 * What is used of a WebSocket: the platform's class, and those of packages, have it.
 *
 * @typedef {object} Socket
 * @property {number} readyState
 * @property {((event: any) => any) | null} onmessage
 * @property {((event: any) => any) | null} onclose
 * @property {((event: any) => any) | null} onerror
 * @property {(text: string) => void} send
 * @property {(code?: number, reason?: string) => void} close
 */

/** @typedef {new (url: string, protocols?: string[]) => Socket} SocketClass */

/** @type {{WebSocket?: SocketClass}} What an entry for a platform without a WebSocket puts in its place. */
export const platform = {};

/**
 * @typedef {object} ConnectionOptions
 * @property {Handshake | undefined} [handshake] `ticket` when left out.
 * @property {Partial<BackoffNumbers> | undefined} [backoff] Other numbers for when to try again.
 * @property {number | undefined} [slackMs] How late a ping may be; 10,000 when left out.
 * @property {SocketClass | undefined} [WebSocket] The platform's when left out.
 * @property {(() => number) | undefined} [random] For tests: numbers in [0, 1).
 */

/**
 * What the machine tells. None of these may throw.
 *
 * @typedef {object} ConnectionHooks
 * @property {(state: ConnectionState) => void} state
 * @property {(auth: AuthSuccess) => void} open After `auth_success`; what is sent here goes first.
 * @property {(reading: Exclude<Reading, {makes: 'bad'}>, text: string) => void} frame
 * @property {(error: OrbitalError) => void} error
 * @property {(failures: number) => boolean} mayRetry Whether to try again after so many failures in a row.
 */

/**
 * A connection that comes back by itself. It never knows what the frames mean to the application.
 */
export class Connection {
  /** @type {ConnectionState} */
  state = { status: 'closed' };
  /** @type {Socket | null} The socket of now. */
  socket = null;
  /** Attempts that failed since the connection was last open. */
  failures = 0;
  /** @type {BackoffNumbers} */
  backoff;

  #http;
  #hooks;
  #handshake;
  #slackMs;
  #WebSocket;
  #random;
  #wanted = false;
  /** @type {object | null} The attempt or socket of now; whatever belongs to another one is late and does not count. */
  #run = null;
  /** @type {string | undefined} The token of this run. */
  #token;
  /** @type {number[]} When the latest attempts began. */
  #attempts = [];
  /** What the server asked for holds until then. */
  #retryAfterAt = 0;
  #heardAt = 0;
  #heartbeatMs = HEARTBEAT_MS;
  /** @type {any} Waiting for the next attempt, for `auth_success`, or for the next frame. */
  #timer;
  /** @type {any} Waiting for an answer. */
  #answer;

  /**
   * @param {Http} http Where tickets and tokens come from.
   * @param {ConnectionOptions} options
   * @param {ConnectionHooks} hooks
   */
  constructor(http, { handshake = 'ticket', backoff, slackMs = SLACK_MS, WebSocket, random = Math.random }, hooks) {
    this.#http = http;
    this.#hooks = hooks;
    this.#handshake = handshake;
    this.#slackMs = slackMs;
    this.#WebSocket = WebSocket;
    this.#random = random;
    this.backoff = { ...BACKOFF, ...backoff };
  }

  /** Connect, and stay connected until `close()`. Asked again, it changes nothing. */
  open() {
    if (this.#wanted) return;
    this.#wanted = true;
    this.failures = 0;
    this.#listen('addEventListener');
    this.#wait(this.#wakeMs());
  }

  /**
   * Close, and stay closed.
   *
   * @param {number} [code] 1000, or 3000 to 4999.
   * @param {string} [reason]
   */
  close(code = 1000, reason = '') {
    if (!this.#wanted && this.state.status === 'closed') return;
    this.#wanted = false;
    this.#listen('removeEventListener');
    this.#drop(code, reason);
    this.#set({ status: 'closed', code, reason });
  }

  /** Give up the socket of now, if there is one, and connect as soon as the rules allow. */
  reopen() {
    if (!this.#wanted) this.open();
    else {
      if (this.#run) this.#lost(ABNORMAL, 'connecting anew');
      this.wake();
    }
  }

  /**
   * Something happened that makes a try worth while: the page is shown again, the network came back. A waiting attempt
   * begins at once, if the five a minute and the server's Retry-After allow it; an open socket is asked for a sign of life, and
   * replaced when it gives none.
   */
  wake = () => {
    if (this.state.status === 'open') this.ask({ group_ids: [] }, PROBE_TIMEOUT_MS);
    else if (this.#wanted && !this.#run) this.#wait(this.#wakeMs());
  };

  /**
   * Send a frame.
   *
   * @param {object} frame
   * @returns {boolean} False when there is no open socket: nothing was sent.
   */
  send(frame) {
    if (this.state.status !== 'open' || this.socket?.readyState !== 1) return false;
    this.socket.send(JSON.stringify(frame));
    return true;
  }

  /**
   * Send `subscribe`, and replace the socket when nothing at all is heard before the answer is due.
   *
   * @param {object} data
   * @param {number} [timeoutMs]
   */
  ask(data, timeoutMs = ANSWER_TIMEOUT_MS) {
    if (!this.send(makeFrame('subscribe', data))) return;
    let since = Date.now();
    const arm = () => {
      clearTimeout(this.#answer);
      this.#answer = setTimeout(() => {
        // Something arrived, so the line holds: the answer may stand behind a long replay.
        if (this.#heardAt > since) {
          since = this.#heardAt;
          arm();
        } else {
          this.#lost(ABNORMAL, `no answer within ${timeoutMs} ms`);
          this.wake();
        }
      }, timeoutMs);
    };
    arm();
  }

  // The attempt

  /** @param {number} delay_ms */
  #wait(delay_ms) {
    const { code, reason } = this.state;
    this.#set({
      status: 'connecting',
      ...(code !== undefined && { code }),
      ...(reason !== undefined && { reason }),
      ...(delay_ms > 0 && { retry_at: Date.now() + delay_ms }),
    });
    this.#arm(delay_ms, () => this.#attempt());
  }

  #wakeMs() {
    const now_ms = Date.now();
    return wakeMs({ now_ms, earlier_ms: this.#attempts, retry_after_ms: this.#retryAfterAt - now_ms }, this.backoff);
  }

  async #attempt() {
    const run = (this.#run = {});
    this.#attempts = [...this.#attempts, Date.now()].slice(-this.backoff.attempts);
    const { retry_at, ...state } = this.state;
    if (retry_at) this.#set(state);
    this.#arm(CONNECT_TIMEOUT_MS, () => this.#lost(ABNORMAL, `not open within ${CONNECT_TIMEOUT_MS} ms`));
    try {
      this.#token = await this.#http.credentials.get();
      if (run !== this.#run) return;
      const [address, protocols] = await this.#address();
      if (run !== this.#run) return;
      const WebSocket = this.#WebSocket ?? globalThis.WebSocket ?? platform.WebSocket;
      if (!WebSocket) throw new OrbitalError('NETWORK', 'no WebSocket here: give one as an option');
      /** @type {Socket} */
      const socket = (this.socket = new WebSocket(address, protocols));
      socket.onmessage = (event) => run === this.#run && this.#heard(event.data);
      socket.onclose = (event) => run === this.#run && this.#ended(event.code, event.reason);
      socket.onerror = () => {};
    } catch (cause) {
      if (run !== this.#run) return;
      const error = wrap('NETWORK', cause);
      // The browser knows that there is no network: no server saw this attempt.
      if (globalThis.navigator?.onLine === false) this.#attempts.pop();
      if (error.status === 401 || error.status === 403) this.#ended(POLICY_VIOLATION, error.message);
      else this.#lost(ABNORMAL, error.message, error.retryAfterMs);
    }
  }

  /** @returns {Promise<[string, string[]]>} The address and the subprotocols to offer. */
  async #address() {
    const address = `${this.#http.url.replace(/^http/, 'ws')}/ws`;
    let way = this.#handshake;
    if (way === 'ticket') {
      try {
        const { ticket } = await this.#http.wsTicket();
        // A refused token may have been renewed on the way.
        this.#token = await this.#http.credentials.get();
        return [`${address}?ticket=${encodeURIComponent(ticket)}`, []];
      } catch (cause) {
        const { status } = wrap('NETWORK', cause);
        const origin = globalThis.location?.origin;
        if (status === 404 || status === 405) way = 'query';
        else if (!status && origin && origin !== this.#http.url) way = 'protocol';
        else throw cause;
      }
    }
    const token = this.#token ?? '';
    return way === 'query' ? [`${address}?token=${encodeURIComponent(token)}`, []] : [address, ['orbital.v1', `bearer.${token}`]];
  }

  // The open socket

  /** @param {unknown} text */
  #heard(text) {
    this.#heardAt = Date.now();
    const reading = readFrame(text);
    if (reading.makes === 'bad') {
      const details = { text: String(text).slice(0, 200) };
      this.#hooks.error(new OrbitalError('BAD_FRAME', `no frame: ${reading.reason}`, { details }));
      return;
    }
    const { type, data } = reading.frame;
    if (type === 'auth_success') this.#opened(data);
    else if (type === 'ping') this.send(pong());
    else if (type === 'subscribed') clearTimeout(this.#answer);
    else if (type === 'token_expiring') void this.#authenticate();
    this.#hooks.frame(reading, /** @type {string} */ (text));
  }

  /** @param {any} auth */
  #opened(auth) {
    this.failures = 0;
    this.#retryAfterAt = 0;
    this.#heartbeatMs = auth.heartbeat_seconds > 0 ? auth.heartbeat_seconds * 1000 : HEARTBEAT_MS;
    this.#set({ status: 'open' });
    this.#watch(this.#heartbeatMs + this.#slackMs);
    this.#hooks.open(auth);
  }

  /** @param {number} delay_ms Look again then whether anything was heard. */
  #watch(delay_ms) {
    this.#arm(delay_ms, () => {
      const limit_ms = this.#heartbeatMs + this.#slackMs;
      const left_ms = this.#heardAt + limit_ms - Date.now();
      // A clock that stepped back must not make us wait longer than the limit.
      if (left_ms > 0) this.#watch(Math.min(left_ms, limit_ms));
      else {
        this.#lost(ABNORMAL, `nothing heard for ${limit_ms} ms`);
        this.wake();
      }
    });
  }

  async #authenticate() {
    const run = this.#run;
    try {
      if (!(await this.#http.credentials.renew(this.#token)) || run !== this.#run) return;
      this.#token = await this.#http.credentials.get();
      this.send(makeFrame('authenticate', { token: this.#token }));
    } catch (cause) {
      this.#hooks.error(wrap('TOKEN', cause));
    }
  }

  // The end

  /**
   * The server ended it: 1008 asks for another token, all else for another try.
   *
   * @param {number} code
   * @param {string} reason
   */
  async #ended(code, reason) {
    if (code !== POLICY_VIOLATION) return this.#lost(code, reason);
    const refused = this.#token;
    const run = this.#run;
    let another = true;
    try {
      another = await this.#http.credentials.renew(refused);
    } catch (cause) {
      // Whoever gives tokens cannot be reached now: that is no refusal.
      this.#hooks.error(wrap('TOKEN', cause));
    }
    if (run !== this.#run) return;
    if (another) this.#lost(code, reason);
    else this.close(code, reason);
  }

  /**
   * @param {number} code
   * @param {string} reason
   * @param {number} [retryAfterMs]
   */
  #lost(code, reason, retryAfterMs = 0) {
    const now_ms = Date.now();
    this.failures = this.state.status === 'open' ? 0 : this.failures + 1;
    this.#retryAfterAt = now_ms + retryAfterMs;
    this.#drop(code, reason);
    if (!this.#hooks.mayRetry(this.failures)) return this.close(code, reason);
    this.#wait(
      delayMs(
        { failures: this.failures, random: this.#random(), now_ms, earlier_ms: this.#attempts, retry_after_ms: retryAfterMs },
        this.backoff,
      ),
    );
  }

  /**
   * @param {number} code
   * @param {string} reason
   */
  #drop(code, reason) {
    this.#run = null;
    clearTimeout(this.#timer);
    clearTimeout(this.#answer);
    const socket = this.socket;
    this.socket = null;
    if (socket && socket.readyState < 2) {
      if (code === 1000 || code >= 3000) socket.close(code, reason);
      else socket.close();
    }
    this.state = { status: 'connecting', code, reason };
  }

  /** @param {ConnectionState} state */
  #set(state) {
    this.state = state;
    this.#hooks.state(state);
  }

  /**
   * @param {number} delay_ms
   * @param {() => void} then
   */
  #arm(delay_ms, then) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(then, delay_ms);
  }

  /** @param {'addEventListener' | 'removeEventListener'} act */
  #listen(act) {
    globalThis[act]?.('online', this.wake);
    globalThis.document?.[act]('visibilitychange', this.#shown);
  }

  #shown = () => globalThis.document.visibilityState === 'visible' && this.wake();
}
