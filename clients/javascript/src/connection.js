/** The connection: one socket at a time, with heartbeat; reconnects as `backoff.js` and the server's Retry-After allow. */
import { BACKOFF, delayMs, wakeMs } from './backoff.js';
import { OrbitalError, wrap } from './errors.js';
import { locate } from './handshake.js';
import { parts } from './parts.js';
import { makeRenewal } from './renewal.js';
import { after } from './timers.js';
import { makeFrame, parseFrame, pong } from './wire.js';

/** @import {BackoffNumbers} from './backoff.js' */
/** @import {Http} from './http.js' */
/** @import {Handshake, Socket, SocketClass} from './socket.js' */
/** @import {Frame, Numbered} from './wire.js' */

/** From the start of an attempt to `auth_success`. A phone's radio wakes up in 2 s, a bad connection needs 5 s for a handshake. */
export const CONNECT_TIMEOUT_MS = 15_000;
/** For the answer to `subscribe`. Without one the server does not receive our frames, whatever else arrives. */
export const ANSWER_TIMEOUT_MS = 10_000;
/** For the answer of a socket that may only look open, after the page was shown or the network returned. */
export const PROBE_TIMEOUT_MS = 3_000;
/** How late a ping may be before the connection counts as dead. */
export const SLACK_MS = 10_000;
/** Between pings, when the server does not say. */
export const HEARTBEAT_MS = 30_000;
/** The longest time between pings that a server may announce. */
const MAX_HEARTBEAT_MS = 3_600_000;
/** An attempt that a person asks for waits for neither back-off nor Retry-After, but only one a second is made. */
const BY_HAND = { attempts: 1, window_ms: 1000 };

/** Failures in a row of which one without a reason is explained: the first ones may be a restart of the server. */
const UNEXPLAINED = 3;

/** A socket was refused or cut permanently by the server (RFC 6455 §7.4.1). */
const POLICY_VIOLATION = 1008;
/** A socket ended without saying why. */
const ABNORMAL = 1006;

/**
 * Where the connection stands.
 *
 * - `connecting`: it is being opened, or the next attempt waits; `code` and `reason` say why the last one ended,
 *   `retry_at` when the next one begins.
 * - `open`: the server has accepted us.
 * - `closed`: nothing happens until `connect()`. With code 1008 the server refused the token or this client: look at `reason`, which
 *   the `error` event gives, too.
 *
 * @typedef {object} ConnectionState
 * @property {'connecting' | 'open' | 'closed'} status
 * @property {number | undefined} [code] Of the last ending: a WebSocket close code; 1006 for a connection that broke or was never there.
 * @property {string | undefined} [reason] Of the last ending, for a person.
 * @property {number | undefined} [retry_at] When the next attempt begins, in milliseconds since the Unix epoch.
 */

/**
 * @typedef {object} ConnectionOptions
 * @property {Handshake | undefined} [handshake] `ticket` when left out.
 * @property {Partial<BackoffNumbers> | undefined} [backoff] Other numbers for when to try again.
 * @property {number | undefined} [slackMs] How late a ping may be; 10,000 when left out.
 * @property {SocketClass | undefined} [WebSocket] The platform's when left out.
 */

/**
 * What a connection uses of its client.
 *
 * @typedef {object} ConnectionOwner
 * @property {Http} http
 * @property {number} reconnectAttempts Failed attempts in a row.
 * @property {number} maxReconnectAttempts
 * @property {(name: any, ...values: any[]) => void} emit
 * @property {(state: ConnectionState) => void} changed
 * @property {() => void} opened Called after `auth_success`.
 * @property {(reading: {makes: 'event', frame: Frame & Numbered} | {makes: 'control' | 'ignored', frame: Frame}, text: string) => void} received
 * @property {(error: OrbitalError) => void} stopped Called when it ended permanently and not by `close()`.
 */

/** A connection that is opened again when it is lost. It never knows what the frames mean to the application. */
export class Connection {
  /** @type {ConnectionState} */
  state = { status: 'closed' };
  /** @type {Socket | null} The current socket. */
  socket = null;

  #owner;
  #options;
  #wanted = false;
  /** @type {AbortController | null} The current attempt or socket; what belongs to another one is late and is ignored. */
  #run = null;
  /** @type {string | null | undefined} The token of this run. */
  #token;
  /** @type {number[]} When the latest attempts began. */
  #attempts = [];
  /** The Retry-After of the server, and when it is over. */
  #askedMs = 0;
  #retryAfterAt = 0;
  #receivedAt = 0;
  /** The longest time without a frame. */
  #limitMs = 0;
  /** @type {any} Waiting for the next attempt, for `auth_success`, or for the next frame. */
  #timer;
  /** @type {any} Waiting for an answer. */
  #answerTimer;
  #renewal = makeRenewal(() => this.#authenticate().catch((cause) => this.#owner.emit('error', cause)));

  /** @param {ConnectionOwner} owner @param {ConnectionOptions} options */
  constructor(owner, options) {
    this.#owner = owner;
    this.#options = options;
    /** @type {BackoffNumbers} The numbers of the back-off; may be changed. */
    this.rule = { ...BACKOFF, ...options.backoff };
  }

  // For the client

  /** Connect, and stay connected until `close()`. Called again, it changes nothing. */
  open() {
    if (this.#want()) this.wake();
  }

  /** The same, for a person: a waiting attempt begins at once, whatever the back-off and the server's Retry-After say. */
  connect() {
    this.#want();
    if (!this.#run) this.#wait(wakeMs({ ...this.rule, ...BY_HAND }, 0, Date.now(), this.#attempts));
  }

  /** @returns {boolean} Whether no connection was wanted before. */
  #want() {
    if (this.#wanted) return false;
    this.#wanted = true;
    this.#owner.reconnectAttempts = 0;
    this.#listen('addEventListener');
    return true;
  }

  /**
   * Close, and stay closed.
   *
   * @param {number} [code] 1000, or 3000 to 4999.
   * @param {string} [reason]
   */
  close(code = 1000, reason = '') {
    if (!this.#wanted) return;
    this.#wanted = false;
    this.#listen('removeEventListener');
    this.#drop(code, reason);
    this.#set({ status: 'closed', code, reason });
  }

  /** Close the current socket, if there is one, and connect as soon as the rules allow. @param {string} [reason] */
  reopen(reason = 'reopened') {
    this.open();
    if (this.#run) this.#lost(reason);
    this.wake();
  }

  /**
   * Try now, since the page is shown again or the network returned. A waiting attempt begins at once, if the five a minute and the server's
   * Retry-After allow it; an open socket is probed, and replaced when nothing arrives.
   */
  wake = () => {
    const now = Date.now();
    if (this.state.status === 'open') this.ask({ group_ids: [] }, PROBE_TIMEOUT_MS);
    else if (this.#wanted && !this.#run)
      this.#wait(wakeMs(this.rule, Math.min(this.#askedMs, this.#retryAfterAt - now), now, this.#attempts));
  };

  /**
   * Send a frame.
   *
   * @param {object} frame
   * @returns {boolean} False when there is no open socket: nothing was sent.
   */
  send(frame) {
    const { socket } = this;
    if (this.state.status !== 'open' || socket?.readyState !== 1) return false;
    socket.send(JSON.stringify(frame));
    return true;
  }

  /**
   * Send `subscribe`, and replace the socket when nothing at all arrives before the answer is due.
   *
   * @param {object} data
   * @param {number} [timeoutMs]
   */
  ask(data, timeoutMs = ANSWER_TIMEOUT_MS) {
    if (!this.send(makeFrame('subscribe', data))) return;
    const asked = Date.now();
    clearTimeout(this.#answerTimer);
    // While something arrives the connection works: the answer may stand behind a long replay.
    this.#answerTimer = after(timeoutMs, () => (this.#receivedAt > asked ? this.ask({ group_ids: [] }) : this.reopen('no answer')));
  }

  /** @param {ConnectionState} next */
  #set(next) {
    this.#owner.changed((this.state = next));
  }

  /**
   * @param {number} ms
   * @param {() => void} then
   */
  #arm(ms, then) {
    clearTimeout(this.#timer);
    this.#timer = after(ms, then);
  }

  // The attempt

  /** @param {number} ms */
  #wait(ms) {
    this.#set({ ...this.state, status: 'connecting', retry_at: Date.now() + ms });
    this.#arm(ms, () => this.#attempt());
  }

  async #attempt() {
    const mine = (this.#run = new AbortController());
    const { http } = this.#owner;
    this.#attempts = [...this.#attempts, Date.now()].slice(-this.rule.attempts);
    this.#set({ ...this.state, retry_at: undefined });
    this.#arm(CONNECT_TIMEOUT_MS, () => this.#lost('no answer in time'));
    try {
      this.#token = await http.credentials.get();
      const [address, protocols, token] = await locate(http, this.#options.handshake, this.#token, mine.signal);
      if (this.#run !== mine) return;
      this.#token = token;
      /** @type {Socket} */
      const made = (this.socket = new (this.#options.WebSocket ?? globalThis.WebSocket)(address, protocols));
      made.onmessage = ({ data }) => this.#run === mine && this.#received(data);
      made.onclose = ({ code, reason }) => this.#run === mine && this.#ended(code, reason, protocols[0]);
      made.onerror = () => {};
    } catch (cause) {
      if (this.#run !== mine) return;
      const error = wrap('NETWORK', cause);
      // The browser knows that there is no network: no server saw this attempt.
      if (globalThis.navigator?.onLine === false) this.#attempts.pop();
      // A status is there only when the answer was the server's own.
      if (error.status === 401 || error.status === 403) void this.#refused(error);
      else this.#lost(error.message, ABNORMAL, error.retryAfterMs);
    }
  }

  // The open socket

  /** @param {unknown} text */
  #received(text) {
    this.#receivedAt = Date.now();
    try {
      const reading = parseFrame(text);
      const { type, data, server_timestamp } = reading.frame;
      if (type === 'ping') this.send(pong());
      else if (type === 'subscribed') clearTimeout(this.#answerTimer);
      else if (type === 'token_expiring') this.#renewal.expiring();
      if (type === 'auth_success' || type === 'authenticated') this.#renewal.until(data.expires_at, server_timestamp);
      if (type === 'auth_success') {
        this.#owner.reconnectAttempts = this.#retryAfterAt = 0;
        const announced = data.heartbeat_seconds * 1000;
        this.#set({ status: 'open' });
        this.#limitMs = (announced > 0 ? Math.min(announced, MAX_HEARTBEAT_MS) : HEARTBEAT_MS) + (this.#options.slackMs ?? SLACK_MS);
        this.#watch(this.#limitMs);
        this.#owner.opened();
      }
      this.#owner.received(reading, /** @type {string} */ (text));
    } catch (cause) {
      const error = wrap('BAD_FRAME', cause);
      error.details = { text: String(text).slice(0, 200) };
      this.#owner.emit('error', error);
    }
  }

  /** @param {number} ms After it, check whether anything arrived. */
  #watch(ms) {
    this.#arm(ms, () => {
      const left = this.#receivedAt + this.#limitMs - Date.now();
      // A clock that stepped back must not make us wait longer than the limit.
      if (left > 0) this.#watch(Math.min(left, this.#limitMs));
      else this.reopen('no answer in time');
    });
  }

  async #authenticate() {
    const mine = this.#run;
    if (!(await this.#renew()) || this.#run !== mine) return;
    this.#token = await this.#owner.http.credentials.get();
    this.send(makeFrame('authenticate', { token: this.#token }));
  }

  /** @returns {Promise<boolean | undefined>} Whether there is another token than the one of this run; undefined when there may be one later. */
  async #renew() {
    try {
      return await this.#owner.http.credentials.renew(this.#token);
    } catch (cause) {
      // The token function failed: that is no refusal.
      this.#owner.emit('error', cause);
      return undefined;
    }
  }

  // The end

  /**
   * The socket ended. Only the server ends an open one with 1008: before `auth_success` it refuses by HTTP.
   *
   * @param {number} code
   * @param {string} reason
   * @param {string} [offered] The first subprotocol that was offered.
   */
  #ended(code, reason, offered) {
    if (code !== POLICY_VIOLATION || this.state.status !== 'open') {
      this.#lost(reason, code);
      if (offered && !reason && this.#owner.reconnectAttempts === UNEXPLAINED)
        parts.advice().then(
          ({ explain }) => explain(this.#owner),
          () => {},
        );
    } else void this.#refused(new OrbitalError('UNAUTHORIZED', reason || 'the server ended the connection', { status: 401 }));
  }

  /** @param {OrbitalError} error The server refused the token, or this client: another token is tried at once, the same one never. */
  async #refused(error) {
    const mine = this.#run;
    const found = await this.#renew();
    if (this.#run !== mine) return;
    if (found === false) {
      this.close(POLICY_VIOLATION, error.message);
      this.#owner.stopped(error);
      return;
    }
    this.#lost(error.message, POLICY_VIOLATION);
    if (found) this.wake();
  }

  /**
   * @param {string} reason
   * @param {number} [code]
   * @param {number} [retryAfterMs]
   */
  #lost(reason, code = ABNORMAL, retryAfterMs = 0) {
    const owner = this.#owner;
    const now = Date.now();
    const failures = (owner.reconnectAttempts = this.state.status === 'open' ? 0 : owner.reconnectAttempts + 1);
    this.#askedMs = retryAfterMs;
    this.#retryAfterAt = now + retryAfterMs;
    this.#drop(code, reason);
    if (failures < owner.maxReconnectAttempts) this.#wait(delayMs(this.rule, failures, Math.random(), retryAfterMs, now, this.#attempts));
    else {
      this.close(code, reason);
      owner.emit('max_reconnect_attempts');
      owner.stopped(new OrbitalError('NETWORK', `no connection in ${failures} attempts: ${reason}`));
    }
  }

  /**
   * @param {number} code
   * @param {string} reason
   */
  #drop(code, reason) {
    const dropped = this.socket;
    this.#run?.abort();
    this.#run = this.socket = null;
    clearTimeout(this.#timer);
    clearTimeout(this.#answerTimer);
    this.#renewal.stop();
    // A client may send no other code (RFC 6455 §7.4).
    if (code === 1000 || code >= 3000) dropped?.close(code, reason);
    else dropped?.close();
    this.state = { status: 'connecting', code, reason };
  }

  /** @param {'addEventListener' | 'removeEventListener'} act */
  #listen(act) {
    globalThis[act]?.('online', this.wake);
    globalThis.document?.[act]('visibilitychange', this.#shown);
  }

  #shown = () => document.hidden || this.wake();
}
