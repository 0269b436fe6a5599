// SPDX-License-Identifier: AGPL-3.0-only
/** What a person can put right: its message is printed as it is, without a stack. */
export class Mistake extends Error {}

/**
 * Say in a sentence why something failed.
 *
 * @param {unknown} error
 * @returns {string | null} Null for an error of this program.
 */
export function sentence(error) {
  const { code, message } = /** @type {any} */ (error);
  if (error instanceof Mistake || /** @type {Error} */ (error).name === 'E2eeError') return message;
  if (code === 'NETWORK') return 'The server does not answer. Is it running? Another one is chosen by --server when you sign up.';
  return /** @type {Error} */ (error).name === 'OrbitalError' ? message : null;
}
