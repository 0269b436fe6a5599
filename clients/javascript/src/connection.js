/** The machine: one socket at a time, opened again whenever it is lost, as fast as the rules allow and no faster. */
import { BACKOFF, delayMs, wakeMs } from './backoff.js';
import { OrbitalError, wrap } from './errors.js';
import { makeRenewal } from './renewal.js';
import { platform } from './socket.js';
import { after } from './timers.js';
import { makeFrame, parseFrame, pong } from './wire.js';

/** @import {BackoffNumbers} from './backoff.js' */
/** @import {Face} from './base-client.js' */
/** @import {Handshake, Socket, SocketClass} from './socket.js' */

/** From the start of an attempt to `auth_success`. A phone's radio wakes up in 2 s, a bad line shakes hands in 5. */
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

/** A socket was refused or cut for good by the server (RFC 6455 §7.4.1). */
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
 * A connection that comes back by itself. It never knows what the frames mean to the application.
 *
 * @typedef {ReturnType<typeof makeConnection>} Connection
 */

/**
 * @param {Face} face Is called: `changed(state)`, `opened()` after `auth_success`, `heard(reading, text)`, `stopped(error)` when it ended for good
 *   and not by `close()`, `emit('error', error)`; has `reconnectAttempts` (failed in a row) and `maxReconnectAttempts`.
 * @param {ConnectionOptions} options
 */
export function makeConnection(face, { handshake = 'ticket', backoff, slackMs = SLACK_MS, WebSocket }) {
  const { http } = face;
  const { credentials } = http;
  /** @type {BackoffNumbers} */
  const rule = { ...BACKOFF, ...backoff };
  /** @type {ConnectionState} */
  let state = { status: 'closed' };
  /** @type {Socket | null} */
  let socket = null;
  let wanted = false;
  /** @type {AbortController | null} The attempt or socket of now; whatever belongs to another one is late and does not count. */
  let run = null;
  /** @type {string | null | undefined} The token of this run. */
  let token;
  /** @type {number[]} When the latest attempts began. */
  let attempts = [];
  /** What the server asked for, and until when it holds. */
  let askedMs = 0;
  let retryAfterAt = 0;
  let heardAt = 0;
  let heartbeatMs = 0;
  /** @type {any} Waiting for the next attempt, for `auth_success`, or for the next frame. */
  let timer;
  /** @type {any} Waiting for an answer. */
  let answerTimer;
  const renewal = makeRenewal(() => authenticate().catch((cause) => face.emit('error', cause)));

  /** @param {ConnectionState} next */
  const set = (next) => face.changed((state = next));

  /**
   * @param {number} ms
   * @param {() => void} then
   */
  const arm = (ms, then) => {
    clearTimeout(timer);
    timer = after(ms, then);
  };

  // For the face

  /** Connect, and stay connected until `close()`. Asked again, it changes nothing. */
  const open = () => {
    if (want()) wake();
  };

  /** The same, for a person: a waiting attempt begins at once, whatever the back-off and the server's Retry-After say. */
  const connect = () => {
    want();
    if (!run) wait(wakeMs({ ...rule, ...BY_HAND }, 0, Date.now(), attempts));
  };

  /** @returns {boolean} Whether nobody wanted a connection before. */
  const want = () => {
    if (wanted) return false;
    wanted = true;
    face.reconnectAttempts = 0;
    listen('addEventListener');
    return true;
  };

  /**
   * Close, and stay closed.
   *
   * @param {number} [code] 1000, or 3000 to 4999.
   * @param {string} [reason]
   */
  const close = (code = 1000, reason = '') => {
    if (!wanted) return;
    wanted = false;
    listen('removeEventListener');
    drop(code, reason);
    set({ status: 'closed', code, reason });
  };

  /** Drop the socket of now, if there is one, and connect as soon as the rules allow. */
  const reopen = () => {
    open();
    if (run) lost('reopened');
    wake();
  };

  /**
   * Something happened that makes a try worth while: the page is shown again, the network came back. A waiting attempt
   * begins at once, if the five a minute and the server's Retry-After allow it; an open socket is asked for a sign of life, and
   * replaced when it gives none.
   */
  const wake = () => {
    const now = Date.now();
    if (state.status === 'open') ask({ group_ids: [] }, PROBE_TIMEOUT_MS);
    else if (wanted && !run) wait(wakeMs(rule, Math.min(askedMs, retryAfterAt - now), now, attempts));
  };

  /**
   * Send a frame.
   *
   * @param {object} frame
   * @returns {boolean} False when there is no open socket: nothing was sent.
   */
  const send = (frame) => {
    if (state.status !== 'open' || socket?.readyState !== 1) return false;
    socket.send(JSON.stringify(frame));
    return true;
  };

  /**
   * Send `subscribe`, and replace the socket when nothing at all is heard before the answer is due.
   *
   * @param {object} data
   * @param {number} [timeoutMs]
   */
  const ask = (data, timeoutMs = ANSWER_TIMEOUT_MS) => {
    if (!send(makeFrame('subscribe', data))) return;
    const asked = Date.now();
    clearTimeout(answerTimer);
    // While something arrives the connection holds: the answer may stand behind a long replay.
    answerTimer = after(timeoutMs, () => (heardAt > asked ? ask({ group_ids: [] }) : dead('no answer')));
  };

  // The attempt

  /** @param {number} ms */
  const wait = (ms) => {
    set({ ...state, status: 'connecting', retry_at: Date.now() + ms });
    arm(ms, attempt);
  };

  const attempt = async () => {
    const mine = (run = new AbortController());
    attempts = [...attempts, Date.now()].slice(-rule.attempts);
    set({ ...state, retry_at: undefined });
    arm(CONNECT_TIMEOUT_MS, () => lost('not open in time'));
    try {
      token = await credentials.get();
      const [address, protocols] = await locate(mine.signal);
      if (run !== mine) return;
      /** @type {Socket} */
      const made = (socket = new (WebSocket ?? globalThis.WebSocket ?? platform.WebSocket)(address, protocols));
      made.onmessage = ({ data }) => run === mine && heard(data);
      made.onclose = ({ code, reason }) => run === mine && ended(code, reason);
      made.onerror = () => {};
    } catch (cause) {
      if (run !== mine) return;
      const error = wrap('NETWORK', cause);
      // The browser knows that there is no network: no server saw this attempt.
      if (globalThis.navigator?.onLine === false) attempts.pop();
      // A status is there only when the answer was the server's own.
      if (error.status === 401 || error.status === 403) void refused(error);
      else lost(error.message, ABNORMAL, error.retryAfterMs);
    }
  };

  /** @param {AbortSignal} signal @returns {Promise<[string, string[]]>} The address, and the subprotocols to offer. */
  const locate = async (signal) => {
    const address = `${http.url.replace(/^http/, 'ws')}/ws`;
    let way = handshake;
    if (way === 'ticket') {
      try {
        const { ticket } = await http.wsTicket(signal);
        // A refused token may have been renewed on the way.
        token = await credentials.get();
        return [`${address}?ticket=${encodeURIComponent(ticket)}`, []];
      } catch (cause) {
        const { code, status } = wrap('NETWORK', cause);
        const origin = globalThis.location?.origin;
        if (code === 'NETWORK' && origin && origin !== http.url) way = 'protocol';
        else if (status === 404)
          throw new OrbitalError('NETWORK', "this server has no tickets; give the option handshake: 'query' or 'protocol'", { cause });
        else throw cause;
      }
    }
    return way === 'query' ? [`${address}?token=${encodeURIComponent(token ?? '')}`, []] : [address, ['orbital.v1', `bearer.${token}`]];
  };

  // The open socket

  /** @param {unknown} text */
  const heard = (text) => {
    heardAt = Date.now();
    try {
      const reading = parseFrame(text);
      const { type, data, server_timestamp } = reading.frame;
      if (type === 'ping') send(pong());
      else if (type === 'subscribed') clearTimeout(answerTimer);
      else if (type === 'token_expiring') renewal.expiring();
      if (type === 'auth_success' || type === 'authenticated') renewal.until(data.expires_at, server_timestamp);
      if (type === 'auth_success') {
        face.reconnectAttempts = retryAfterAt = 0;
        const announced = data.heartbeat_seconds * 1000;
        heartbeatMs = announced > 0 ? Math.min(announced, MAX_HEARTBEAT_MS) : HEARTBEAT_MS;
        set({ status: 'open' });
        watch(heartbeatMs + slackMs);
        face.opened();
      }
      face.heard(reading, /** @type {string} */ (text));
    } catch (cause) {
      const error = wrap('BAD_FRAME', cause);
      error.details = { text: String(text).slice(0, 200) };
      face.emit('error', error);
    }
  };

  /** @param {number} ms Look then whether anything was heard. */
  const watch = (ms) =>
    arm(ms, () => {
      const limit = heartbeatMs + slackMs;
      const left = heardAt + limit - Date.now();
      // A clock that stepped back must not make us wait longer than the limit.
      if (left > 0) watch(Math.min(left, limit));
      else dead('nothing heard');
    });

  const authenticate = async () => {
    const mine = run;
    if (!(await renew()) || run !== mine) return;
    token = await credentials.get();
    send(makeFrame('authenticate', { token }));
  };

  /** @returns {Promise<boolean | undefined>} Whether there is another token than the one of this run; undefined when there may be one later. */
  const renew = async () => {
    try {
      return await credentials.renew(token);
    } catch (cause) {
      // The token function failed: that is no refusal.
      face.emit('error', cause);
      return undefined;
    }
  };

  // The end

  /**
   * The socket ended. Only the server ends an open one with 1008: before `auth_success` it refuses by HTTP.
   *
   * @param {number} code
   * @param {string} reason
   */
  const ended = (code, reason) => {
    if (code !== POLICY_VIOLATION || state.status !== 'open') lost(reason, code);
    else void refused(new OrbitalError('UNAUTHORIZED', reason || 'the server ended the connection', { status: 401 }));
  };

  /** @param {OrbitalError} error The server refused the token, or this client: another token is tried at once, the same one never. */
  const refused = async (error) => {
    const mine = run;
    const found = await renew();
    if (run !== mine) return;
    if (found === false) {
      close(POLICY_VIOLATION, error.message);
      face.stopped(error);
      return;
    }
    lost(error.message, POLICY_VIOLATION);
    if (found) wake();
  };

  /** @param {string} reason The connection is dead, and nobody said so: there is nothing to wait for. */
  const dead = (reason) => {
    lost(reason);
    wake();
  };

  /**
   * @param {string} reason
   * @param {number} [code]
   * @param {number} [retryAfterMs]
   */
  const lost = (reason, code = ABNORMAL, retryAfterMs = 0) => {
    const now = Date.now();
    const failures = (face.reconnectAttempts = state.status === 'open' ? 0 : face.reconnectAttempts + 1);
    retryAfterAt = now + (askedMs = retryAfterMs);
    drop(code, reason);
    if (failures < face.maxReconnectAttempts) wait(delayMs(rule, failures, Math.random(), retryAfterMs, now, attempts));
    else {
      close(code, reason);
      face.emit('max_reconnect_attempts');
      face.stopped(new OrbitalError('NETWORK', `no connection after ${failures} attempts: ${reason}`));
    }
  };

  /**
   * @param {number} code
   * @param {string} reason
   */
  const drop = (code, reason) => {
    const dropped = socket;
    run?.abort();
    run = socket = null;
    clearTimeout(timer);
    clearTimeout(answerTimer);
    renewal.stop();
    // A client may give no other code (RFC 6455 §7.4).
    if (code === 1000 || code >= 3000) dropped?.close(code, reason);
    else dropped?.close();
    state = { status: 'connecting', code, reason };
  };

  /** @param {'addEventListener' | 'removeEventListener'} act */
  const listen = (act) => {
    globalThis[act]?.('online', wake);
    globalThis.document?.[act]('visibilitychange', shown);
  };

  const shown = () => document.hidden || wake();

  return {
    open,
    connect,
    close,
    reopen,
    wake,
    send,
    ask,
    /** The numbers of the back-off; may be changed. */
    rule,
    get state() {
      return state;
    },
    /** The socket of now. */
    get socket() {
      return socket;
    },
  };
}
