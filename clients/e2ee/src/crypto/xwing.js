/**
 * X-Wing (draft-connolly-cfrg-xwing-kem, HPKE KEM 0x647A): ML-KEM-768 and X25519, joined by SHA3-256.
 *
 * The two halves are separate keys, so that each can be a CryptoKey that cannot be read out. X25519 is the platform's; ML-KEM-768 is the
 * platform's where WebCrypto has it, else @noble/post-quantum's.
 */
import { sha3_256, shake256 } from '@noble/hashes/sha3.js';
import { concat, copy, random } from '../bytes.js';
import { E2eeError } from '../errors.js';

/** @import { Bytes } from '../bytes.js' */

export const PUBLIC_BYTES = 1216;
export const ENC_BYTES = 1120;
const MLKEM_PUBLIC = 1184;
const MLKEM_CIPHERTEXT = 1088;
const MLKEM_SEED = 64;
/** Six bytes, `\.//^\` (draft §5.3). */
const LABEL = Uint8Array.of(0x5c, 0x2e, 0x2f, 0x2f, 0x5e, 0x5c);
/** The beginning of an X25519 private key in PKCS#8 (RFC 8410 §7); the scalar follows. */
const PKCS8 = Uint8Array.of(0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x6e, 0x04, 0x22, 0x04, 0x20);
const X25519 = 'X25519';
const MLKEM = 'ML-KEM-768';

/**
 * @typedef {object} XWingKey A private key with its public key.
 * @property {CryptoKey | Bytes} mlkem A key of the platform's, or the 64 bytes of its seed.
 * @property {CryptoKey} x25519
 * @property {Bytes} public 1,216 bytes.
 */

/** WebCrypto's ML-KEM (WICG Modern Algorithms), which TypeScript's library does not know yet. */
const subtle = /** @type {any} */ (globalThis.crypto?.subtle);

/** Loaded when it is first needed: a page whose browser has ML-KEM never loads it. */
const software = async () => (await import('@noble/post-quantum/ml-kem.js')).ml_kem768;

/** @type {Promise<boolean> | undefined} */
let native;
/** @returns {Promise<boolean>} Whether the platform has ML-KEM-768. */
export const hasNativeMlKem = () =>
  (native ??= (async () => {
    try {
      await subtle.generateKey(MLKEM, false, ['encapsulateBits', 'decapsulateBits']);
      return true;
    } catch {
      return false;
    }
  })());

/** @param {Bytes} scalar @param {boolean} extractable */
export const importScalar = (scalar, extractable) =>
  crypto.subtle.importKey('pkcs8', concat(PKCS8, scalar), X25519, extractable, ['deriveBits']);

/** @param {Bytes} bytes */
const importPoint = (bytes) => crypto.subtle.importKey('raw', bytes, X25519, true, []);

/**
 * @param {CryptoKey} key
 * @param {Bytes} point
 * @returns {Promise<Bytes>}
 * @throws {E2eeError} `bad_key` when the result is all zeros: the point is of low order (RFC 7748 §6.1).
 */
export async function agree(key, point) {
  let shared;
  try {
    shared = new Uint8Array(await crypto.subtle.deriveBits({ name: X25519, public: await importPoint(point) }, key, 256));
  } catch {
    throw new E2eeError('bad_key', 'X25519 refused the public key');
  }
  if (shared.every((byte) => byte === 0)) throw new E2eeError('bad_key', 'a public key of low order');
  return shared;
}

/** @param {Uint8Array} ssM @param {Uint8Array} ssX @param {Uint8Array} ctX @param {Uint8Array} pkX */
const combine = (ssM, ssX, ctX, pkX) => copy(sha3_256(concat(ssM, ssX, ctX, pkX, LABEL)));

/** @param {Bytes} seed 32 bytes. @returns {{mlkem: Bytes, scalar: Bytes}} Draft §5.2. */
function expandSeed(seed) {
  const expanded = shake256(seed, { dkLen: MLKEM_SEED + 32 });
  return { mlkem: copy(expanded.subarray(0, MLKEM_SEED)), scalar: copy(expanded.subarray(MLKEM_SEED)) };
}

/**
 * Restore a key from its seed of 32 bytes.
 *
 * @param {Bytes} seed
 * @returns {Promise<XWingKey>} The X25519 half cannot be read out.
 */
export async function fromSeed(seed) {
  const { mlkem, scalar } = expandSeed(seed);
  const base = new Uint8Array(32);
  base[0] = 9;
  const x25519 = await importScalar(scalar, false);
  return { mlkem, x25519, public: concat((await software()).keygen(mlkem).publicKey, await agree(x25519, base)) };
}

/**
 * Make a key whose halves cannot be read out where the platform can keep them so.
 *
 * @returns {Promise<XWingKey>}
 */
export async function generateHandles() {
  const pair = /** @type {CryptoKeyPair} */ (await crypto.subtle.generateKey(X25519, false, ['deriveBits']));
  const point = new Uint8Array(await crypto.subtle.exportKey('raw', pair.publicKey));
  if (await hasNativeMlKem()) {
    const kem = await subtle.generateKey(MLKEM, false, ['encapsulateBits', 'decapsulateBits']);
    const publicKey = new Uint8Array(await subtle.exportKey('raw-public', kem.publicKey));
    return { mlkem: kem.privateKey, x25519: pair.privateKey, public: concat(publicKey, point) };
  }
  const mlkem = random(MLKEM_SEED);
  return { mlkem, x25519: pair.privateKey, public: concat((await software()).keygen(mlkem).publicKey, point) };
}

/** @param {Bytes} publicKey @param {Bytes} [coins] @returns {Promise<{secret: Uint8Array, ciphertext: Uint8Array}>} */
async function encapsulateMlKem(publicKey, coins) {
  if (!coins && (await hasNativeMlKem())) {
    const key = await subtle.importKey('raw-public', publicKey, MLKEM, false, ['encapsulateBits']);
    const { sharedKey, ciphertext } = await subtle.encapsulateBits({ name: MLKEM }, key);
    return { secret: new Uint8Array(sharedKey), ciphertext: new Uint8Array(ciphertext) };
  }
  const { cipherText, sharedSecret } = (await software()).encapsulate(publicKey, coins);
  return { secret: sharedSecret, ciphertext: cipherText };
}

/**
 * Encapsulate (draft §5.4).
 *
 * @param {Uint8Array} publicKey 1,216 bytes.
 * @param {Uint8Array} [coins] 64 bytes, for test vectors only.
 * @returns {Promise<{secret: Bytes, enc: Bytes}>}
 * @throws {E2eeError} `bad_key`.
 */
export async function encapsulate(publicKey, coins) {
  if (publicKey.length !== PUBLIC_BYTES)
    throw new E2eeError('bad_key', `an X-Wing public key has ${PUBLIC_BYTES} bytes, not ${publicKey.length}`);
  const point = copy(publicKey.subarray(MLKEM_PUBLIC));
  const base = new Uint8Array(32);
  base[0] = 9;
  const ephemeral = await importScalar(coins ? copy(coins.subarray(32)) : random(32), false);
  const [ctX, ssX] = [await agree(ephemeral, base), await agree(ephemeral, point)];
  let half;
  try {
    half = await encapsulateMlKem(copy(publicKey.subarray(0, MLKEM_PUBLIC)), coins && copy(coins.subarray(0, 32)));
  } catch {
    // FIPS 203 §7.2: the modulus check of an encapsulation key.
    throw new E2eeError('bad_key', 'ML-KEM-768 refused the public key');
  }
  return { secret: combine(half.secret, ssX, ctX, point), enc: concat(half.ciphertext, ctX) };
}

/** @param {Bytes} seed 64 bytes. @param {Bytes} ciphertext @returns {Promise<Uint8Array>} */
async function decapsulateSeed(seed, ciphertext) {
  const kem = await software();
  return kem.decapsulate(ciphertext, kem.keygen(seed).secretKey);
}

/**
 * Decapsulate (draft §5.5).
 *
 * @param {XWingKey} key
 * @param {Uint8Array} enc 1,120 bytes.
 * @returns {Promise<Bytes>}
 * @throws {E2eeError} `bad_key`, `malformed`.
 */
export async function decapsulate(key, enc) {
  if (enc.length !== ENC_BYTES) throw new E2eeError('malformed', `an X-Wing ciphertext has ${ENC_BYTES} bytes, not ${enc.length}`);
  const [ctM, ctX] = [copy(enc.subarray(0, MLKEM_CIPHERTEXT)), copy(enc.subarray(MLKEM_CIPHERTEXT))];
  const ssM =
    key.mlkem instanceof Uint8Array
      ? await decapsulateSeed(key.mlkem, ctM)
      : new Uint8Array(await subtle.decapsulateBits({ name: MLKEM }, key.mlkem, ctM));
  return combine(ssM, await agree(key.x25519, ctX), ctX, key.public.subarray(MLKEM_PUBLIC));
}
