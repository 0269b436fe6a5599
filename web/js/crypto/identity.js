/** A member's key pair: it wraps the group keys that the server stores for this member. */
import { fromBase64, toBase64 } from './bytes.js';
import { AES, bound, decrypt, encrypt, VERSION, versioned } from './envelope.js';

/** @import {Bytes} from './bytes.js' */

/** An uncompressed point of P-256 (SEC 1 §2.3.3). */
const POINT_BYTES = 65;
const CURVE = { name: 'ECDH', namedCurve: 'P-256' };
const encoder = new TextEncoder();

/** @returns {Promise<CryptoKeyPair>} The private key cannot be exported. */
export const newIdentity = () => crypto.subtle.generateKey(CURVE, false, ['deriveBits']);

/** @param {CryptoKeyPair} identity @returns {Promise<JsonWebKey>} */
export async function publicJwk(identity) {
  const { kty, crv, x, y } = await crypto.subtle.exportKey('jwk', identity.publicKey);
  return /** @type {JsonWebKey} */ ({ kty, crv, x, y });
}

/**
 * @param {CryptoKey} privateKey
 * @param {CryptoKey} publicKey
 * @param {Bytes} once The public key that is made for this one wrapping.
 */
async function agree(privateKey, publicKey, once) {
  const shared = await crypto.subtle.deriveBits({ name: 'ECDH', public: publicKey }, privateKey, 256);
  const secret = await crypto.subtle.importKey('raw', shared, 'HKDF', false, ['deriveKey']);
  const how = { name: 'HKDF', hash: 'SHA-256', salt: once, info: encoder.encode(`orbital/${VERSION} group key`) };
  return crypto.subtle.deriveKey(how, secret, AES, false, ['encrypt', 'decrypt']);
}

/**
 * Wrap a group's key so that only this member's private key opens it (ECIES: P-256, HKDF-SHA-256, AES-256-GCM).
 *
 * @param {CryptoKeyPair} identity
 * @param {Bytes} raw
 * @returns {Promise<string>}
 */
export async function wrapGroupKey(identity, raw) {
  const once = await crypto.subtle.generateKey(CURVE, false, ['deriveBits']);
  const point = new Uint8Array(await crypto.subtle.exportKey('raw', once.publicKey));
  const sealed = await encrypt(await agree(once.privateKey, identity.publicKey, point), bound('', 'group-key'), raw);
  const both = new Uint8Array(POINT_BYTES + sealed.length);
  both.set(point);
  both.set(sealed, POINT_BYTES);
  return toBase64(versioned(both));
}

/**
 * @param {CryptoKeyPair | undefined} identity
 * @param {string} wrapped
 * @returns {Promise<Bytes | null>} Null when it was not wrapped for this identity.
 */
export async function unwrapGroupKey(identity, wrapped) {
  try {
    const envelope = fromBase64(wrapped);
    if (!identity || envelope[0] !== VERSION) return null;
    const point = envelope.slice(1, 1 + POINT_BYTES);
    const once = await crypto.subtle.importKey('raw', point, CURVE, false, []);
    const raw = await decrypt(await agree(identity.privateKey, once, point), bound('', 'group-key'), envelope.subarray(1 + POINT_BYTES));
    return new Uint8Array(raw);
  } catch {
    return null;
  }
}
