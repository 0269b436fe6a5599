/** Errors: one class with a code for programs and a sentence for people. */

/**
 * An error of the server, of the network, or of the use of this library.
 *
 * Codes of the server are those of the protocol (`FORBIDDEN`, `TOO_MANY_REQUESTS`, …). Codes of ours:
 *
 * - `NETWORK`: no answer came; `cause` is what the platform said.
 * - `HTTP_404`, `HTTP_200`, … and, in a browser, `HTTP_REDIRECT`: an answer that is not this server's, as of a proxy or a captive portal: it decides
 *   nothing.
 * - `TOKEN`: your token function threw or did not answer in time; `cause` is what it threw.
 * - `BAD_FRAME`: the server sent something that is not a frame; `details.text` is its beginning.
 * - `HANDLER`: a handler of yours threw; `cause` is what it threw.
 * - `CLOSED`: the client was closed first.
 * - `STALE`: a draft is older than the 24 hours for which the server knows its key, so that sending it again might double it.
 * - `DISCARDED`: a draft was taken back.
 * - `TOO_LARGE`: a list has more entries than a method collects.
 * - `HASH_MISMATCH`: a medium does not have the hash that was asked for.
 * - `CHAIN_BROKEN`: with `verify: 'throw'`, the server dropped, changed or re-ordered something; `details` is the violation.
 */
export class OrbitalError extends Error {
  /** The HTTP status of an answer of the server's own; 0 when there was no answer, or another's. */
  status = 0;
  /** @type {Record<string, any>} */
  details = {};
  /** How long the server asked to wait, at most an hour; 0 when it did not ask. */
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

  /** Whether the same request may succeed later: no answer, an answer that is not the server's, 429, or a failure of the server's own. */
  get retryable() {
    return /^(NETWORK|TOKEN|INTERNAL|UNAVAILABLE|TOO_MANY_REQUESTS|HTTP_\w+)$/.test(this.code);
  }

  /** What JSON, and so a log or another process, gets: the message too, which is no own enumerable property. */
  toJSON() {
    const { name, code, message, status, details, retryAfterMs } = this;
    return { name, code, message, status, details, retryAfterMs };
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

/** @typedef {OrbitalError & {code: 'EPOCH_CHANGED', details: {epoch: number}}} EpochChanged A post was refused: the group's members or devices changed since its `if_epoch`. */

/**
 * Whether a post was refused since the group's epoch is above its `if_epoch`: process the log up to `error.details.epoch`, encrypt again, and post
 * again.
 *
 * @param {unknown} error
 * @returns {error is EpochChanged}
 */
export const isEpochChanged = (error) =>
  error instanceof OrbitalError && error.code === 'EPOCH_CHANGED' && Number.isSafeInteger(error.details.epoch);
