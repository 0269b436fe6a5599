/** The invite link: a code to join a group at the server, and the group key that decrypts its content. */
import { keyFromText } from '../crypto/group-key.js';

/** @import {Bytes} from '../crypto/bytes.js' */

/**
 * - `invitation`: code and key.
 * - `key`: only the key is valid; it unlocks a group on another device of a member.
 * - `broken`: an invitation that is truncated or damaged.
 *
 * @typedef {{kind: 'invitation', code: string, raw: Bytes} | {kind: 'key', raw: Bytes} | {kind: 'broken'} | {kind: 'none'}} Reading
 */

const CODE = /^[A-Z0-9]{8}$/;

/**
 * Parse a link, its fragment, or typed text.
 *
 * @param {string} text A link, or a code.
 * @param {string} [apart] The key, if it was sent separately.
 * @returns {Reading}
 */
export function readInvitation(text, apart = '') {
  const inLink = /#?join=([^.]*)\.?(.*)$/s.exec(text.trim());
  if (inLink) return pair(inLink[1] ?? '', inLink[2] ?? '');
  if (apart.trim()) return pair(text, apart);
  const raw = keyFromText(text);
  return raw ? { kind: 'key', raw } : { kind: 'none' };
}

/** @param {string} spokenCode @param {string} spokenKey @returns {Reading} */
function pair(spokenCode, spokenKey) {
  const code = spokenCode.replace(/[\s-]/g, '').toUpperCase();
  const raw = keyFromText(spokenKey);
  if (!raw) return { kind: 'broken' };
  return CODE.test(code) ? { kind: 'invitation', code, raw } : { kind: 'key', raw };
}

/** Read the operator's invitation to make an account. @param {string} hash The fragment of the address. @returns {string | undefined} */
export const readPass = (hash) => /^#invitation=([\w-]{8,64})$/.exec(hash)?.[1];

/** @param {string} page The page's address, with a slash at the end. @param {string} code @param {string} key */
export const invitationLink = (page, code, key) => `${page}#join=${code}.${key}`;
