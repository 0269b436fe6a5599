/** The invite link: a code to join a group at the server, the key that decrypts its content, and in version 2 who invites. */
import { fromBase64, toBase64Url } from '../crypto/bytes.js';
import { keyFromText } from '../crypto/group-key.js';

/** @import {Bytes} from '../crypto/bytes.js' */

/**
 * - `invitation`: code and key.
 * - `key`: only the key is valid; it unlocks a group on another device of a member.
 * - `broken`: an invitation that is truncated or damaged.
 *
 * @typedef {{kind: 'invitation', code: string, raw: Bytes, inviter?: string} | {kind: 'key', raw: Bytes} | {kind: 'broken'} | {kind: 'none'}} Reading
 */

const CODE = /^[A-Z0-9]{8}$/;
/** A user's id in base64url. */
const INVITER = /^[\w-]{22}$/;

/** @param {string} id A UUID. @returns {string} Its 16 bytes in base64url. */
const shortId = (id) => toBase64Url(Uint8Array.from(id.replace(/-/g, '').match(/../g) ?? [], (pair) => Number.parseInt(pair, 16)));

/** @param {string} text @returns {string | undefined} The UUID. */
function longId(text) {
  if (!INVITER.test(text)) return undefined;
  const digits = [...fromBase64(text)].map((byte) => byte.toString(16).padStart(2, '0')).join('');
  return digits.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}

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
  const [key = '', who = ''] = spokenKey.split('.');
  const raw = keyFromText(key);
  if (!raw) return { kind: 'broken' };
  const inviter = longId(who);
  return CODE.test(code) ? { kind: 'invitation', code, raw, ...(inviter && { inviter }) } : { kind: 'key', raw };
}

/** Read the operator's invitation to make an account. @param {string} hash The fragment of the address. @returns {string | undefined} */
export const readPass = (hash) => /^#invitation=([\w-]{8,64})$/.exec(hash)?.[1];

/**
 * @param {string} page The page's address, with a slash at the end.
 * @param {string} code
 * @param {string} key
 * @param {string} [inviter] The id of the member who invites.
 */
export const invitationLink = (page, code, key, inviter) => `${page}#join=${code}.${key}${inviter ? `.${shortId(inviter)}` : ''}`;
