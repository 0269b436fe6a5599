/** Errors: one class with a code for programs and a sentence for people. */

/**
 * @typedef {'malformed' | 'unsupported' | 'bad_key' | 'bad_signature' | 'cannot_open' | 'unknown_chain' | 'repeated' | 'too_far_ahead'
 *   | 'before_first' | 'epoch_changed' | 'conflict' | 'out_of_order' | 'not_found' | 'stopped' | 'locked'} Code
 */

/**
 * An error of the encryption layer. No message carries a key or a plaintext.
 *
 * - `malformed`: bytes are not in the format that their place asks for.
 * - `unsupported`: a version or suite that this client does not have.
 * - `bad_key`: a public key of another type, not canonical, or of low order.
 * - `bad_signature`: a signature that does not verify, or whose S is ℓ or more.
 * - `cannot_open`: an authenticated ciphertext that does not open.
 * - `unknown_chain`, `repeated`, `before_first`, `too_far_ahead`: a sender-key message whose chain is unknown, whose iteration was used, is older
 *   than the first one given, or is more than 2,000 ahead.
 * - `epoch_changed`: the group changed before a post reached it; `details.epoch` is the number to catch up to.
 * - `conflict`: the server holds another body under the same idempotency key.
 * - `out_of_order`: an event that is not the group's next one; `details.expected` is the next number.
 * - `not_found`: a named thing does not exist here.
 * - `stopped`: sending in this group waits for a person's decision.
 * - `locked`: the store does not open with this key.
 */
export class E2eeError extends Error {
  /**
   * @param {Code} code
   * @param {string} message What is wrong, and what to do when there is something to do.
   * @param {Record<string, unknown>} [details]
   */
  constructor(code, message, details = {}) {
    super(message);
    this.name = 'E2eeError';
    /** @type {Code} */
    this.code = code;
    this.details = details;
  }
}

/** @param {unknown} error @param {Code} code @returns {error is E2eeError} */
export const isCode = (error, code) => error instanceof E2eeError && error.code === code;
