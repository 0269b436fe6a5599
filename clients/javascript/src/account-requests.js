/** Requests about the caller's account: sign-up, login, password, sessions, deletion. Loaded with the rest of the REST side. */
import { OrbitalError, wrap } from './errors.js';
import { PushRequests } from './push-requests.js';

/** @import {About, ExportLine, IssuedToken, LoggedIn, LoginBody, LoginSession, OwnAccount, SignedUp} from './api-types.js' */
/** @import {PostOptions} from './requests.js' */

/** The longest line of an export that is read; the server's are below 1.5 MiB. */
const MAX_LINE = 4 * 1024 * 1024;

/** The account of the client's token. A method that ends the present token uses the one that it is given from there on. */
export class AccountRequests extends PushRequests {
  /** The server's name, version and limits, and whether signing up requires an invitation. @returns {Promise<About>} */
  about() {
    return this.get('/api/about', 'signups');
  }

  /**
   * Open an account; the token is used from here on.
   *
   * @param {{username: string, password: string, public_key: object, invitation?: string, device_name?: string}} body `invitation`: an operator's, or a group's invite code, where `about()` says `invited`.
   * @param {PostOptions} [options]
   * @returns {Promise<SignedUp>}
   */
  async signup(body, options) {
    return this.#enter(await this.once('/api/signup', 'token', body, options));
  }

  /** Log in; the token is used from here on. @param {LoginBody} body @returns {Promise<LoggedIn>} */
  async login(body) {
    return this.#enter(await this.json('POST', '/api/login', 'token', body));
  }

  /** Revoke the token: it opens nothing any more, and its connections are closed. @returns {Promise<void>} */
  async logout() {
    await this.json('POST', '/api/logout');
  }

  /** The account, and whether it is an administrator's. @returns {Promise<OwnAccount>} */
  account() {
    return this.get('/api/account', 'user_id');
  }

  /** Set the name that the account is shown under: 1 to 64 characters of any script; null removes it. @param {string | null} displayName @returns {Promise<OwnAccount>} */
  setDisplayName(displayName) {
    return this.json('PUT', '/api/account/display-name', 'user_id', { display_name: displayName });
  }

  /**
   * Change the password. All sessions end, this one too; the token of the answer is used from here on.
   *
   * @param {string} oldPassword
   * @param {string} newPassword
   * @returns {Promise<IssuedToken>}
   */
  async changePassword(oldPassword, newPassword) {
    const body = { old_password: oldPassword, new_password: newPassword };
    return this.#enter(await this.json('POST', '/api/password', 'token', body));
  }

  /**
   * Set another password by a one-time code of the operator's, and log in; the token is used from here on.
   *
   * @param {string} code
   * @param {string} newPassword
   * @returns {Promise<SignedUp>}
   */
  async resetPassword(code, newPassword) {
    return this.#enter(await this.json('POST', '/api/password/reset', 'token', { code, new_password: newPassword }));
  }

  /** A page of the logins whose tokens hold, the last used first. @param {{limit?: number, offset?: number}} [query] @returns {Promise<{sessions: LoginSession[], has_more: boolean}>} */
  sessions(query) {
    return this.get('/api/sessions', 'sessions', query);
  }

  /** End a session: its tokens open nothing any more. @param {string} sessionId @returns {Promise<void>} */
  async endSession(sessionId) {
    await this.json('DELETE', `/api/sessions/${encodeURIComponent(sessionId)}`);
  }

  /** Get a newer token without the password; it is used from here on. @returns {Promise<IssuedToken>} */
  async renewSession() {
    return this.#enter(await this.json('POST', '/api/session/renew', 'token'));
  }

  /**
   * Iterate over everything that the account can read, as the server has it; one line at a time is in memory. The last line has the type `end`.
   *
   * @param {{signal?: AbortSignal}} [options]
   * @returns {AsyncGenerator<ExportLine, void, undefined>}
   * @throws {OrbitalError} `TOO_MANY_REQUESTS` after 5 exports in an hour; `NETWORK` when the export was cut off, behind the lines before it.
   */
  async *eachExportLine({ signal } = {}) {
    const { body } = await this.request('GET', '/api/account/export', { signal, timeoutMs: 0 });
    const reader = /** @type {ReadableStream<Uint8Array>} */ (body).getReader();
    const decoder = new TextDecoder();
    try {
      for (let rest = '', next; !(next = await reader.read()).done; ) {
        const lines = (rest + decoder.decode(next.value, { stream: true })).split('\n');
        rest = /** @type {string} */ (lines.pop());
        if (rest.length > MAX_LINE) throw new OrbitalError('NETWORK', `a line of the export is longer than ${MAX_LINE} characters`);
        for (const line of lines) {
          const found = JSON.parse(line);
          yield found;
          if (found.type === 'end') return;
        }
      }
    } catch (cause) {
      signal?.throwIfAborted();
      throw wrap('NETWORK', cause);
    } finally {
      reader.cancel().catch(() => {});
    }
    throw new OrbitalError('NETWORK', 'the export was cut off: its last line is missing');
  }

  /** Delete the account; it cannot be undone. @param {string} password @returns {Promise<void>} */
  async deleteAccount(password) {
    await this.json('DELETE', '/api/account', undefined, { password });
  }

  /** @param {any} answer */
  #enter(answer) {
    this.credentials.set(answer.token);
    return answer;
  }
}
