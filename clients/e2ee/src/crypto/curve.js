/**
 * Curve25519 keys that sign, as Signal's XEdDSA specification has them: a public key is the u-coordinate behind the type byte 0x05, and the sign
 * of the Edwards point travels in the top bit of the signature, which Ed25519 leaves unused.
 *
 * The signing itself is the platform's Ed25519. What is computed here handles public values only, so its time reveals nothing.
 */
import { concat, copy, toHex } from '../bytes.js';
import { E2eeError } from '../errors.js';

/** @import { Bytes } from '../bytes.js' */

/** First byte of a serialized Curve25519 public key. */
export const KEY_TYPE = 0x05;
const SIGN_BIT = 0x80;
const P = 2n ** 255n - 19n;
/** Order of the base point (RFC 8032 §5.1). */
const ORDER = 2n ** 252n + 27742317777372353535851937790883648493n;
/** The u-coordinates of low order on the curve and its twist (RFC 7748 §6.1, the security considerations of RFC 7748 §7). */
const LOW_ORDER = new Set([
  0n,
  1n,
  P - 1n,
  325606250916557431795983626356110631294008115727848805560023387167927233504n,
  39382357235489614581723060781553021112529911719440698176882885853963445705823n,
]);

/** @param {bigint} value @returns {bigint} */
const mod = (value) => ((value % P) + P) % P;

/** @param {bigint} value Not 0. @returns {bigint} value^(p−2): Fermat's inverse. */
function invert(value) {
  let result = 1n;
  let base = value;
  for (let power = P - 2n; power > 0n; power >>= 1n) {
    if (power & 1n) result = (result * base) % P;
    base = (base * base) % P;
  }
  return result;
}

/** @param {Uint8Array} bytes Little-endian. @returns {bigint} */
const toNumber = (bytes) => bytes.reduceRight((sum, byte) => (sum << 8n) | BigInt(byte), 0n);

/** @param {bigint} value @returns {Bytes} 32 bytes, little-endian. */
function toBytes(value) {
  const bytes = new Uint8Array(32);
  for (let at = 0; at < 32; at++, value >>= 8n) bytes[at] = Number(value & 0xffn);
  return bytes;
}

/**
 * Check a serialized public key: type byte, length, canonical encoding, no point of low order.
 *
 * @param {Uint8Array} key
 * @returns {bigint} Its u-coordinate.
 * @throws {E2eeError} `bad_key`.
 */
export function checkPublicKey(key) {
  if (key.length !== 33 || key[0] !== KEY_TYPE)
    throw new E2eeError('bad_key', `not a Curve25519 public key: ${key.length} bytes, first ${key[0]}`);
  const u = toNumber(key.subarray(1));
  if (u >= P) throw new E2eeError('bad_key', 'a public key that is not in its canonical form');
  if (LOW_ORDER.has(u)) throw new E2eeError('bad_key', 'a public key of low order');
  return u;
}

/** @param {Uint8Array} edwards An Ed25519 public key. @returns {Bytes} The 33 bytes of the same point's Curve25519 key: u = (1 + y) / (1 − y). */
export function toCurve(edwards) {
  const y = toNumber(edwards) & (2n ** 255n - 1n);
  return concat(Uint8Array.of(KEY_TYPE), toBytes(mod((1n + y) * invert(mod(1n - y)))));
}

/** @param {bigint} u @param {number} sign 0x80 or 0. @returns {Bytes} An Ed25519 public key: y = (u − 1) / (u + 1). */
function toEdwards(u, sign) {
  const bytes = toBytes(mod((u - 1n) * invert(mod(u + 1n))));
  bytes[31] = /** @type {number} */ (bytes[31]) | sign;
  return bytes;
}

/** Keys that verified lately: a chain's key is needed for each of its messages, and its conversion costs more than the verification. */
const imported = new Map();
const MAX_IMPORTED = 256;

/** @param {Uint8Array} key 33 bytes. @param {number} sign @returns {Promise<CryptoKey>} @throws {E2eeError} `bad_key`. */
async function importPublic(key, sign) {
  const name = `${sign}/${toHex(key)}`;
  let found = imported.get(name);
  if (!found) {
    found = await crypto.subtle.importKey('raw', toEdwards(checkPublicKey(key), sign), 'Ed25519', false, ['verify']);
    // Maps keep the order of insertion: the oldest goes.
    if (imported.size >= MAX_IMPORTED) imported.delete(imported.keys().next().value);
    imported.set(name, found);
  }
  return found;
}

/**
 * Verify an XEdDSA signature. S ≥ ℓ is refused, which Ed25519 libraries do not all do.
 *
 * @param {Uint8Array} key 33 bytes.
 * @param {Uint8Array} message
 * @param {Uint8Array} signature 64 bytes.
 * @returns {Promise<boolean>} False for a bad key too.
 */
export async function verify(key, message, signature) {
  if (signature.length !== 64) return false;
  const plain = copy(signature);
  const sign = /** @type {number} */ (plain[63]) & SIGN_BIT;
  plain[63] = /** @type {number} */ (plain[63]) & ~SIGN_BIT;
  if (toNumber(plain.subarray(32)) >= ORDER) return false;
  try {
    return await crypto.subtle.verify('Ed25519', await importPublic(key, sign), plain, copy(message));
  } catch {
    return false;
  }
}

/** The beginning of an Ed25519 private key in PKCS#8 (RFC 8410 §7); the seed follows. */
const PKCS8 = Uint8Array.of(0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20);

/**
 * @typedef {object} SigningKey
 * @property {CryptoKey} key An Ed25519 private key.
 * @property {Bytes} edwards Its Ed25519 public key.
 */

/**
 * Make a signing key.
 *
 * @param {boolean} extractable Whether its seed can be read out again, as a store of bytes needs.
 * @returns {Promise<SigningKey>}
 */
export async function generateSigningKey(extractable) {
  const pair = /** @type {CryptoKeyPair} */ (await crypto.subtle.generateKey('Ed25519', extractable, ['sign', 'verify']));
  return { key: pair.privateKey, edwards: new Uint8Array(await crypto.subtle.exportKey('raw', pair.publicKey)) };
}

/** @param {Bytes} seed 32 bytes. @param {boolean} [extractable] @returns {Promise<CryptoKey>} */
export const importSeed = (seed, extractable = false) =>
  crypto.subtle.importKey('pkcs8', concat(PKCS8, seed), 'Ed25519', extractable, ['sign']);

/** @param {CryptoKey} key An extractable one. @returns {Promise<Bytes>} Its seed. */
export const exportSeed = async (key) => new Uint8Array(await crypto.subtle.exportKey('pkcs8', key)).slice(PKCS8.length);

/**
 * Sign as XEdDSA does.
 *
 * @param {SigningKey} signing
 * @param {Uint8Array} message
 * @returns {Promise<Bytes>} 64 bytes.
 */
export async function sign({ key, edwards }, message) {
  const signature = new Uint8Array(await crypto.subtle.sign('Ed25519', key, copy(message)));
  const signBit = /** @type {number} */ (edwards[31]) & SIGN_BIT;
  signature[63] = /** @type {number} */ (signature[63]) | signBit;
  return signature;
}
