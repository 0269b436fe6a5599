/** Encrypted texts (envelopes): AES-256-GCM with a group's key, through WebCrypto. The server stores them and cannot decrypt them. */
import { fromBase64, toBase64 } from './bytes.js';

/** @import {Bytes} from './bytes.js' */

/** First byte of every envelope: the format's version. */
export const VERSION = 1;
/** NIST SP 800-38D §8.2.2: 96 random bits for each sealing. */
export const NONCE_BYTES = 12;
export const TAG_BYTES = 16;
export const AES = { name: 'AES-GCM', length: 256 };

const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { fatal: true });

/** Whether this page may use WebCrypto: only over https or on localhost (Secure Contexts §3). */
export const canEncrypt = () => Boolean(globalThis.crypto?.subtle);

/**
 * The additional authenticated data: an envelope decrypts only as the same kind of content of the same group.
 *
 * @param {string} groupId
 * @param {string} kind
 */
export const bound = (groupId, kind) => encoder.encode(`orbital/${VERSION}\n${groupId}\n${kind}`);

/**
 * @param {CryptoKey} key
 * @param {Bytes} additional
 * @param {Bytes} plain
 * @returns {Promise<Bytes>} Nonce, then ciphertext and tag.
 */
export async function encrypt(key, additional, plain) {
  const nonce = crypto.getRandomValues(new Uint8Array(NONCE_BYTES));
  const sealed = await crypto.subtle.encrypt({ name: 'AES-GCM', iv: nonce, additionalData: additional }, key, plain);
  const both = new Uint8Array(NONCE_BYTES + sealed.byteLength);
  both.set(nonce);
  both.set(new Uint8Array(sealed), NONCE_BYTES);
  return both;
}

/**
 * @param {CryptoKey} key
 * @param {Bytes} additional
 * @param {Bytes} both
 */
export const decrypt = (key, additional, both) =>
  crypto.subtle.decrypt(
    { name: 'AES-GCM', iv: both.subarray(0, NONCE_BYTES), additionalData: additional },
    key,
    both.subarray(NONCE_BYTES),
  );

/** @param {Bytes} bytes @returns {Bytes} With the version before them. */
export const versioned = (bytes) => {
  const envelope = new Uint8Array(1 + bytes.length);
  envelope[0] = VERSION;
  envelope.set(bytes, 1);
  return envelope;
};

/**
 * Seal a text.
 *
 * @param {CryptoKey} key
 * @param {string} groupId Empty for the group's name: that is sealed before the group has an id.
 * @param {string} kind
 * @param {string} text
 * @returns {Promise<string>} Base64 of version, nonce, ciphertext and tag.
 */
export async function seal(key, groupId, kind, text) {
  return toBase64(versioned(await encrypt(key, bound(groupId, kind), encoder.encode(text))));
}

/**
 * Open a text.
 *
 * @param {CryptoKey | undefined} key
 * @param {string} groupId
 * @param {string} kind
 * @param {string} sealed
 * @returns {Promise<string | null>} Null when it cannot be opened: another key, another kind, another version, or changed on the way.
 */
export async function open(key, groupId, kind, sealed) {
  try {
    const envelope = fromBase64(sealed);
    if (!key || envelope[0] !== VERSION) return null;
    return decoder.decode(await decrypt(key, bound(groupId, kind), envelope.subarray(1)));
  } catch {
    return null;
  }
}
