/** HMAC-SHA-256, HKDF and hashes by WebCrypto. */
import { concat, copy, utf8 } from '../bytes.js';

/** @import { Bytes } from '../bytes.js' */

const HMAC = { name: 'HMAC', hash: 'SHA-256' };
export const HASH_BYTES = 32;
const NO_SALT = new Uint8Array(HASH_BYTES);

/**
 * @param {Bytes} key Empty counts as zeros (RFC 2104 §2 pads the key with zeros).
 * @param {...Uint8Array} parts
 * @returns {Promise<Bytes>} 32 bytes.
 */
export async function hmac(key, ...parts) {
  const imported = await crypto.subtle.importKey('raw', key.length ? key : NO_SALT, HMAC, false, ['sign']);
  return new Uint8Array(await crypto.subtle.sign('HMAC', imported, concat(...parts)));
}

/** @param {Bytes} salt @param {...Uint8Array} material @returns {Promise<Bytes>} RFC 5869 §2.2. */
export const extract = (salt, ...material) => hmac(salt, ...material);

/** @param {Bytes} prk @param {Uint8Array} info @param {number} length In bytes. @returns {Promise<Bytes>} RFC 5869 §2.3. */
export async function expand(prk, info, length) {
  const key = await crypto.subtle.importKey('raw', prk, HMAC, false, ['sign']);
  const out = new Uint8Array(length);
  let block = new Uint8Array(0);
  for (let at = 0, counter = 1; at < length; at += HASH_BYTES, counter++) {
    block = new Uint8Array(await crypto.subtle.sign('HMAC', key, concat(block, info, Uint8Array.of(counter))));
    out.set(block.subarray(0, length - at), at);
  }
  return out;
}

/** @param {Bytes} material @param {Bytes} salt @param {string} info @param {number} length In bytes. @returns {Promise<Bytes>} RFC 5869. */
export async function hkdf(material, salt, info, length) {
  const key = await crypto.subtle.importKey('raw', material, 'HKDF', false, ['deriveBits']);
  return new Uint8Array(await crypto.subtle.deriveBits({ name: 'HKDF', hash: 'SHA-256', salt, info: utf8(info) }, key, 8 * length));
}

/** @param {Bytes} key Not empty. @param {readonly Bytes[]} messages @returns {Promise<Bytes[]>} The MAC of each under the one key. */
export async function hmacs(key, messages) {
  const imported = await crypto.subtle.importKey('raw', key, HMAC, false, ['sign']);
  return Promise.all(messages.map(async (message) => new Uint8Array(await crypto.subtle.sign('HMAC', imported, message))));
}

/** @param {...Uint8Array} parts @returns {Promise<Bytes>} */
export const sha256 = async (...parts) => new Uint8Array(await crypto.subtle.digest('SHA-256', concat(...parts)));

/** @param {...Uint8Array} parts @returns {Promise<Bytes>} */
export const sha512 = async (...parts) => new Uint8Array(await crypto.subtle.digest('SHA-512', concat(...parts)));

/** @param {Bytes} key @param {Bytes} iv 12 bytes, never twice with one key. @param {Bytes} plain @param {Bytes} [aad] @returns {Promise<Bytes>} Ciphertext and tag. */
export async function gcmSeal(key, iv, plain, aad = copy(new Uint8Array(0))) {
  const imported = await crypto.subtle.importKey('raw', key, 'AES-GCM', false, ['encrypt']);
  return new Uint8Array(await crypto.subtle.encrypt({ name: 'AES-GCM', iv, additionalData: aad }, imported, plain));
}

/** @param {Bytes} key @param {Bytes} iv @param {Bytes} sealed @param {Bytes} [aad] @returns {Promise<Bytes>} @throws If it does not open. */
export async function gcmOpen(key, iv, sealed, aad = copy(new Uint8Array(0))) {
  const imported = await crypto.subtle.importKey('raw', key, 'AES-GCM', false, ['decrypt']);
  return new Uint8Array(await crypto.subtle.decrypt({ name: 'AES-GCM', iv, additionalData: aad }, imported, sealed));
}
