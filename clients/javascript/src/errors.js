/** What goes wrong, as one class with a code for programs and a sentence for people. */

/**
 * An error of the server, of the network, or of the use of this library.
 *
 * Codes of the server are those of the protocol (`FORBIDDEN`, `TOO_MANY_REQUESTS`, …). Codes of ours:
 *
 * - `NETWORK`: no answer came; `cause` tells what the platform said.
 * - `TOKEN`: your function that gives tokens threw; `cause` is what it threw.
 * - `BAD_FRAME`: the server sent what is no frame; `details.text` is its beginning.
 * - `HANDLER`: a handler of yours threw; `cause` is what it threw.
 * - `CLOSED`: the client was closed first.
 * - `STALE`: a draft is older than the 24 hours for which the server knows its key, so that sending it again might double it.
 * - `HASH_MISMATCH`: a medium is not what its hash says.
 */
export class OrbitalError extends Error {
  /**
   * @param {string} code
   * @param {string} message
   * @param {object} [more]
   * @param {number} [more.status] The HTTP status; 0 when there was no answer.
   * @param {Record<string, unknown>} [more.details]
   * @param {number} [more.retryAfterMs] What the server asked to wait; 0 when it did not.
   * @param {unknown} [more.cause]
   */
  constructor(code, message, { status = 0, details = {}, retryAfterMs = 0, cause } = {}) {
    super(message, cause === undefined ? {} : { cause });
    this.name = 'OrbitalError';
    this.code = code;
    this.status = status;
    this.details = details;
    this.retryAfterMs = retryAfterMs;
  }

  /** Whether the same request may succeed later: no answer, 408, 429, or a failure of the server's own. */
  get retryable() {
    return /^(NETWORK|TOKEN|UNAVAILABLE|TOO_MANY_REQUESTS|INTERNAL)$/.test(this.code) || this.status === 408 || this.status === 429 || this.status >= 500;
  }
}

/**
 * Put what was thrown into an OrbitalError, unless it is one.
 *
 * @param {string} code
 * @param {unknown} cause
 * @returns {OrbitalError}
 */
export const wrap = (code, cause) =>
  cause instanceof OrbitalError ? cause : new OrbitalError(code, String(/** @type {any} */ (cause)?.message ?? cause), { cause });
