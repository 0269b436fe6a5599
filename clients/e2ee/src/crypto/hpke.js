/** HPKE, base mode, one message a context (RFC 9180), with X-Wing, HKDF-SHA-256 and AES-256-GCM: suite 0x647A, 0x0001, 0x0002. */
import { concat, utf8 } from '../bytes.js';
import { E2eeError } from '../errors.js';
import { expand, extract, gcmOpen, gcmSeal } from './mac.js';
import { decapsulate, encapsulate } from './xwing.js';

/** @import { Bytes } from '../bytes.js' */
/** @import { XWingKey } from './xwing.js' */

const EMPTY = new Uint8Array(0);
const KEY_BYTES = 32;
const NONCE_BYTES = 12;
const BASE_MODE = Uint8Array.of(0);
export const KEM_ID = 0x647a;
const KDF_ID = 0x0001;
const AEAD_ID = 0x0002;

/**
 * Derive key and nonce of a context's first message (RFC 9180 §5.1, KeySchedule with mode_base).
 *
 * @param {Bytes} shared The KEM's shared secret.
 * @param {Uint8Array} info
 * @returns {Promise<{key: Bytes, nonce: Bytes}>}
 */
export async function keySchedule(shared, info) {
  const suite = concat(utf8('HPKE'), Uint8Array.of(KEM_ID >> 8, KEM_ID & 0xff, KDF_ID >> 8, KDF_ID, AEAD_ID >> 8, AEAD_ID));
  const prefix = concat(utf8('HPKE-v1'), suite);
  /** @param {Bytes} salt @param {string} label @param {Uint8Array} material */
  const labeledExtract = (salt, label, material) => extract(salt, prefix, utf8(label), material);
  /** @param {Bytes} prk @param {string} label @param {Uint8Array} context @param {number} length */
  const labeledExpand = (prk, label, context, length) =>
    expand(prk, concat(Uint8Array.of(length >> 8, length & 0xff), prefix, utf8(label), context), length);

  const context = concat(BASE_MODE, await labeledExtract(EMPTY, 'psk_id_hash', EMPTY), await labeledExtract(EMPTY, 'info_hash', info));
  const secret = await labeledExtract(shared, 'secret', EMPTY);
  return {
    key: await labeledExpand(secret, 'key', context, KEY_BYTES),
    nonce: await labeledExpand(secret, 'base_nonce', context, NONCE_BYTES),
  };
}

/**
 * Seal for the holder of a key.
 *
 * @param {Uint8Array} publicKey 1,216 bytes.
 * @param {Uint8Array} info
 * @param {Bytes} plain
 * @param {Uint8Array} [coins] 64 bytes, for test vectors only.
 * @returns {Promise<{enc: Bytes, ciphertext: Bytes}>}
 * @throws {E2eeError} `bad_key`.
 */
export async function seal(publicKey, info, plain, coins) {
  const { secret, enc } = await encapsulate(publicKey, coins);
  const { key, nonce } = await keySchedule(secret, info);
  return { enc, ciphertext: await gcmSeal(key, nonce, plain) };
}

/**
 * Open what `seal` made.
 *
 * @param {XWingKey} key
 * @param {Uint8Array} enc
 * @param {Uint8Array} info
 * @param {Bytes} ciphertext
 * @returns {Promise<Bytes>}
 * @throws {E2eeError} `cannot_open`, `bad_key`, `malformed`.
 */
export async function open(key, enc, info, ciphertext) {
  const derived = await keySchedule(await decapsulate(key, enc), info);
  try {
    return await gcmOpen(derived.key, derived.nonce, ciphertext);
  } catch {
    throw new E2eeError('cannot_open', 'a delivery that does not open: it was made for another key, place or group, or changed in transit');
  }
}
