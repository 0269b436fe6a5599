/** Fork detection: every content carries where its sender stood in the log; two histories cannot both agree with it. */
import { fromBase64, toHex } from './bytes.js';
import { HEADS_KEPT } from './state.js';
import { ordered } from './unit.js';

/** @import { Stop } from './state.js' */
/** @import { Unit } from './unit.js' */

/** Bytes of a frame's hash that a content carries. */
export const HEAD_BYTES = 16;

/** @typedef {{hash?: string, claims?: {head: string, by: string}[]}} Head `head`: the first 16 bytes, hexadecimal. */

/** Claims kept for one number that is not reached yet. */
const MAX_CLAIMS = 64;

/** @param {string} hash Base64url. @returns {string} Its first 16 bytes, hexadecimal. */
export const headOf = (hash) => toHex(fromBase64(hash).subarray(0, HEAD_BYTES));

/**
 * Note the hash of an event, and compare it with what members claimed about its number.
 *
 * @param {Unit} unit
 * @param {string} group
 * @param {number} seq
 * @param {string} hash
 * @returns {Promise<Stop | null>}
 */
export async function noteHead(unit, group, seq, hash) {
  const key = `${group}/${ordered(seq)}`;
  const head = /** @type {Head | undefined} */ (await unit.get('heads', key));
  unit.put('heads', key, { hash });
  if (seq > HEADS_KEPT) unit.delete('heads', `${group}/${ordered(seq - HEADS_KEPT)}`);
  const other = head?.claims?.find((claim) => claim.head !== headOf(hash));
  return other ? { code: 'two_histories', seq, ours: headOf(hash), theirs: other.head, by: other.by } : null;
}

/**
 * Compare a member's head with this device's.
 *
 * @param {Unit} unit
 * @param {string} group
 * @param {number} seq
 * @param {Uint8Array} head 16 bytes.
 * @param {string} by
 * @returns {Promise<Stop | null>} Null also when the number is not reached yet: it is compared then.
 */
export async function checkHead(unit, group, seq, head, by) {
  const key = `${group}/${ordered(seq)}`;
  const known = /** @type {Head | undefined} */ (await unit.get('heads', key));
  const theirs = toHex(head);
  if (known?.hash) return headOf(known.hash) === theirs ? null : { code: 'two_histories', seq, ours: headOf(known.hash), theirs, by };
  const { position } = await unit.get('groups', group);
  // Older than what is kept: nothing to compare with.
  if (seq <= position.seq) return null;
  const claims = known?.claims ?? [];
  if (claims.length < MAX_CLAIMS && !claims.some((claim) => claim.head === theirs))
    unit.put('heads', key, { claims: [...claims, { head: theirs, by }] });
  return null;
}
