/** Invite links: after the `#` stand the invite secret and the hash of the founder's identity key, 43 letters. */
import { concat, fromBase64, toBase64Url } from './bytes.js';
import { sha256 } from './crypto/mac.js';
import { LENGTHS } from './formats/schemas.js';

/** @import { Bytes } from './bytes.js' */

/** @typedef {{secret: Bytes, founder: Bytes}} Invite `founder`: the first 16 bytes of the SHA-256 of the founder's identity key. */

const TEXT = /^[A-Za-z0-9_-]{43}$/;

/** @param {Uint8Array} identity 33 bytes. @returns {Promise<Bytes>} 16 bytes. */
export const founderHash = async (identity) => (await sha256(identity)).slice(0, LENGTHS.hash);

/** @param {Invite} invite @returns {string} 43 letters. */
export const writeInvite = ({ secret, founder }) => toBase64Url(concat(secret, founder));

/** @param {string} text White space is skipped. @returns {Invite | null} Null when it is not an invite. */
export function readInvite(text) {
  const bare = text.replace(/\s/g, '');
  if (!TEXT.test(bare)) return null;
  const bytes = fromBase64(bare);
  // The last letter carries two bits too many; another spelling of the same bytes is not accepted.
  return toBase64Url(bytes) === bare ? { secret: bytes.slice(0, LENGTHS.secret), founder: bytes.slice(LENGTHS.secret) } : null;
}
