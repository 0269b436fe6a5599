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
  /** The HTTP status; 0 when there was no answer. */
  status = 0;
  /** @type {Record<string, any>} */
  details = {};
  /** What the server asked to wait; 0 when it did not. */
  retryAfterMs = 0;

  /**
   * @param {string} code
   * @param {string} message
   * @param {{status?: number, details?: Record<string, unknown>, retryAfterMs?: number, cause?: unknown}} [more]
   */
  constructor(code, message, more) {
    super(message);
    this.name = 'OrbitalError';
    this.code = code;
    Object.assign(this, more);
  }

  /** Whether the same request may succeed later: no answer, 408, 429, or a failure of the server's own. */
  get retryable() {
    return /^(NETWORK|TOKEN|INTERNAL|UNAVAILABLE|TOO_MANY_REQUESTS|HTTP_(408|429|5..))$/.test(this.code);
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
