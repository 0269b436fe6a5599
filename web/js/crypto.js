/** What the server never learns: sealing and opening with a group's key, and keeping that key. WebCrypto only. */

/** First byte of everything sealed here; another number is another way of sealing. */
const VERSION = 1;
/** NIST SP 800-38D §8.2.2: 96 random bits for each sealing. */
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
/** Plain bytes of one piece of a photo or video: small enough for a phone's memory, large enough that 28 bytes more do not matter. */
const PIECE_BYTES = 1024 * 1024;
const SEALED_PIECE_BYTES = NONCE_BYTES + PIECE_BYTES + TAG_BYTES;
const RAW_KEY_BYTES = 32;
/** An uncompressed point of P-256 (SEC 1 §2.3.3). */
const POINT_BYTES = 65;

const AES = { name: 'AES-GCM', length: 256 };
const CURVE = { name: 'ECDH', namedCurve: 'P-256' };
const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { fatal: true });

/** @typedef {Uint8Array<ArrayBuffer>} Bytes */

/** Whether this page may use WebCrypto: only over https, or on the machine itself. */
export const canEncrypt = () => Boolean(globalThis.crypto?.subtle);

/** @param {Uint8Array} bytes @returns {string} */
export const toBase64 = (bytes) => {
  let text = '';
  for (let at = 0; at < bytes.length; at += 0x8000) text += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
  return btoa(text);
};

/** @param {string} text Standard or URL-safe. @returns {Bytes} */
export const fromBase64 = (text) => Uint8Array.from(atob(text.replace(/-/g, '+').replace(/_/g, '/')), (letter) => letter.charCodeAt(0));

/** @param {Bytes} raw @returns {string} A key as it stands in a link: 43 letters. */
export const keyToText = (raw) => toBase64(raw).replace(/\+/g, '-').replace(/\//g, '_').replace(/=+$/, '');

/**
 * Read a group's key from a link, or as somebody typed it.
 *
 * @param {string} text
 * @returns {Bytes | null} Null when it can be none.
 */
export function keyFromText(text) {
  const bare = text.replace(/\s/g, '');
  if (!/^[\w+/-]{43}=?$/.test(bare)) return null;
  const raw = fromBase64(bare.replace('=', ''));
  return raw.length === RAW_KEY_BYTES ? raw : null;
}

/** @returns {Bytes} A new group's key. */
export const newGroupKey = () => crypto.getRandomValues(new Uint8Array(RAW_KEY_BYTES));

/** @param {Bytes} raw @returns {Promise<CryptoKey>} It seals and opens, and cannot be read out again. */
export const importGroupKey = (raw) => crypto.subtle.importKey('raw', raw, AES, false, ['encrypt', 'decrypt']);

/**
 * What is bound to a sealed text without being part of it: it opens only as the same kind of content of the same group.
 *
 * @param {string} groupId
 * @param {string} kind
 */
const bound = (groupId, kind) => encoder.encode(`orbital/${VERSION}\n${groupId}\n${kind}`);

/**
 * @param {CryptoKey} key
 * @param {Bytes} additional
 * @param {Bytes} plain
 * @returns {Promise<Bytes>} Nonce, then ciphertext and tag.
 */
async function encrypt(key, additional, plain) {
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
const decrypt = (key, additional, both) =>
  crypto.subtle.decrypt({ name: 'AES-GCM', iv: both.subarray(0, NONCE_BYTES), additionalData: additional }, key, both.subarray(NONCE_BYTES));

/** @param {Bytes} bytes @returns {Bytes} With the version before them. */
const versioned = (bytes) => {
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

// Photos and videos: in pieces, so that a long video needs little memory

/** @param {string} mediaId @param {number} index @param {boolean} last Bound, so that pieces can be neither swapped nor cut off. */
const pieceKind = (mediaId, index, last) => `media/${mediaId}/${index}${last ? '/last' : ''}`;

/**
 * Seal a file.
 *
 * @param {CryptoKey} key
 * @param {string} groupId
 * @param {string} mediaId
 * @param {Blob} file
 * @param {AbortSignal} [signal]
 * @returns {Promise<{sealed: Blob, iv: string}>} `iv`: the first piece's nonce, which also stands in `sealed`.
 */
export async function sealFile(key, groupId, mediaId, file, signal) {
  const parts = [new Blob([Uint8Array.of(VERSION)])];
  const pieces = Math.max(1, Math.ceil(file.size / PIECE_BYTES));
  let iv = '';
  for (let index = 0; index < pieces; index++) {
    signal?.throwIfAborted();
    const plain = new Uint8Array(await file.slice(index * PIECE_BYTES, (index + 1) * PIECE_BYTES).arrayBuffer());
    const piece = await encrypt(key, bound(groupId, pieceKind(mediaId, index, index === pieces - 1)), plain);
    iv ||= toBase64(piece.subarray(0, NONCE_BYTES));
    // A Blob of its own: the browser may move it out of memory.
    parts.push(new Blob([piece]));
  }
  return { sealed: new Blob(parts), iv };
}

/**
 * Open a file.
 *
 * @param {CryptoKey} key
 * @param {string} groupId
 * @param {string} mediaId
 * @param {Blob} sealed
 * @param {string} type Of the Blob that comes out.
 * @returns {Promise<Blob>}
 * @throws When it is not what was sealed.
 */
export async function openFile(key, groupId, mediaId, sealed, type) {
  const [version] = new Uint8Array(await sealed.slice(0, 1).arrayBuffer());
  if (version !== VERSION) throw new Error('sealed in a way that is not known here');
  const parts = [];
  const pieces = Math.max(1, Math.ceil((sealed.size - 1) / SEALED_PIECE_BYTES));
  for (let index = 0; index < pieces; index++) {
    const at = 1 + index * SEALED_PIECE_BYTES;
    const piece = new Uint8Array(await sealed.slice(at, at + SEALED_PIECE_BYTES).arrayBuffer());
    parts.push(new Blob([await decrypt(key, bound(groupId, pieceKind(mediaId, index, index === pieces - 1)), piece)]));
  }
  return new Blob(parts, { type });
}

// A member's own pair of keys: what keeps group keys on the server for this member alone

/** @returns {Promise<CryptoKeyPair>} The private key cannot be read out. */
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
