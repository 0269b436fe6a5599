/**
 * Safety numbers: two people compare 60 digits, or scan 74 bytes, and know that nobody's keys stand between theirs.
 *
 * Signal's numeric fingerprint, version 0 with 5,200 rounds of SHA-512. For one device each the digits are libsignal's; for several the key is
 * the sorted identity keys of the person's devices, one behind the other.
 */
import { concat, equal, uuidBytes } from './bytes.js';
import { sha512 } from './crypto/mac.js';
import { decode, encode } from './formats/protobuf.js';

/** @import { Bytes } from './bytes.js' */
/** @import { Schema } from './formats/protobuf.js' */

const ROUNDS = 5200;
const VERSION = Uint8Array.of(0, 0);
/** Version of the scannable form that belongs to it. */
const SCAN_VERSION = 2;

/** @type {Schema} */
const HALF = { 1: { name: 'content', type: 'bytes', length: 32, required: true } };
/** @type {Schema} */
const COMBINED = {
  1: { name: 'version', type: 'uint', required: true },
  2: { name: 'local', type: 'message', schema: HALF, required: true },
  3: { name: 'remote', type: 'message', schema: HALF, required: true },
};

/** @typedef {{user: string, identities: Uint8Array[]}} Person `identities`: the 33-byte keys of the person's devices, at least one. */

/** @param {Uint8Array} a @param {Uint8Array} b */
function order(a, b) {
  const at = a.findIndex((byte, index) => byte !== b[index]);
  return at < 0 ? 0 : /** @type {number} */ (a[at]) - /** @type {number} */ (b[at]);
}

/** @param {Person} person @returns {Promise<Bytes>} 64 bytes. */
async function fingerprint({ user, identities }) {
  if (identities.length === 0) throw new RangeError(`${user} has no device to compare`);
  const key = concat(...[...identities].sort(order));
  let hash = concat(VERSION, key, uuidBytes(user));
  for (let round = 0; round < ROUNDS; round++) hash = await sha512(hash, key);
  return hash;
}

/** @param {Uint8Array} hash @returns {string} 30 digits. */
function digits(hash) {
  let text = '';
  for (let at = 0; at < 30; at += 5) {
    const value = hash.subarray(at, at + 5).reduce((sum, byte) => sum * 256 + byte, 0);
    text += String(value % 100_000).padStart(5, '0');
  }
  return text;
}

/**
 * Compute the safety number of two people, as the first one sees it.
 *
 * @param {Person} local
 * @param {Person} remote
 * @returns {Promise<{digits: string, scannable: Bytes}>} The 60 digits are the same for both; the scannable bytes are each other's mirror.
 */
export async function safetyNumber(local, remote) {
  const [mine, theirs] = [await fingerprint(local), await fingerprint(remote)];
  const scannable = encode(COMBINED, {
    version: SCAN_VERSION,
    local: { content: mine.subarray(0, 32) },
    remote: { content: theirs.subarray(0, 32) },
  });
  return { digits: [digits(mine), digits(theirs)].sort().join(''), scannable };
}

/**
 * Compare what was scanned with one's own scannable bytes.
 *
 * @param {Uint8Array} own
 * @param {Uint8Array} scanned
 * @returns {boolean}
 * @throws {import('./errors.js').E2eeError} `malformed` when what was scanned is no safety number.
 */
export function matchesScan(own, scanned) {
  const [mine, theirs] = [decode(COMBINED, own), decode(COMBINED, scanned)];
  return (
    mine.version === theirs.version && equal(mine.local.content, theirs.remote.content) && equal(mine.remote.content, theirs.local.content)
  );
}

/** @param {string} sixty 60 digits. @returns {string} Twelve blocks of five, in three lines. */
export const spaced = (sixty) => (sixty.match(/\d{20}/g) ?? []).map((line) => (line.match(/\d{5}/g) ?? []).join(' ')).join('\n');
