/** Files: each under a key of its own, in pieces of 1 MiB whose place and end are bound. The key travels in the content of kind 5. */
import { sha256 as hash } from '@noble/hashes/sha2.js';
import { copy, equal, fromUtf8, random, utf8 } from './bytes.js';
import { E2eeError } from './errors.js';
import { decode, encode } from './formats/protobuf.js';

/** @import { Bytes } from './bytes.js' */
/** @import { Schema } from './formats/protobuf.js' */

/** Plain bytes of one piece. */
export const PIECE_BYTES = 1024 * 1024;
/** First byte of a file that has a key of its own; files under a group's key begin with 0x01. */
const VERSION = 2;
const KEY_BYTES = 32;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const SEALED_PIECE_BYTES = NONCE_BYTES + PIECE_BYTES + TAG_BYTES;

/** @type {Schema} The body of content of kind 5 (media info). */
export const MEDIA_INFO = {
  1: { name: 'key', type: 'bytes', length: KEY_BYTES, required: true },
  2: { name: 'sha256', type: 'bytes', length: 32, required: true },
  3: { name: 'type', type: 'bytes', required: true },
  4: { name: 'name', type: 'bytes', required: true },
};

/** @typedef {{key: Bytes, sha256: Bytes, type: string, name: string}} MediaInfo `sha256`: of the sealed file. */

/** @param {MediaInfo} info @returns {Bytes} */
export const writeMediaInfo = (info) => encode(MEDIA_INFO, { ...info, type: utf8(info.type), name: utf8(info.name) });

/** @param {Uint8Array} bytes @returns {MediaInfo} @throws {E2eeError} `malformed`. */
export function readMediaInfo(bytes) {
  const { key, sha256, type, name } = decode(MEDIA_INFO, bytes);
  try {
    return { key, sha256, type: fromUtf8(type), name: fromUtf8(name) };
  } catch {
    throw new E2eeError('malformed', 'a media info whose type or name is not UTF-8');
  }
}

/** @param {string} mediaId @param {number} index @param {boolean} last */
const bound = (mediaId, index, last) => utf8(`orbital/2\nmedia/${mediaId}/${index}${last ? '/last' : ''}`);

/** @param {Bytes} key @param {'encrypt' | 'decrypt'} use */
const importKey = (key, use) => crypto.subtle.importKey('raw', key, 'AES-GCM', false, [use]);

/**
 * Seal a file, piece by piece: memory holds one piece at a time.
 *
 * @param {string} mediaId
 * @param {Blob} file
 * @param {AbortSignal} [signal]
 * @returns {Promise<{key: Bytes, sealed: Blob, sha256: Bytes}>}
 */
export async function sealFile(mediaId, file, signal) {
  const key = random(KEY_BYTES);
  const imported = await importKey(key, 'encrypt');
  const pieces = Math.max(1, Math.ceil(file.size / PIECE_BYTES));
  /** @type {Blob[]} */
  const parts = [new Blob([Uint8Array.of(VERSION)])];
  for (let index = 0; index < pieces; index++) {
    signal?.throwIfAborted();
    const iv = random(NONCE_BYTES);
    const plain = await file.slice(index * PIECE_BYTES, (index + 1) * PIECE_BYTES).arrayBuffer();
    const additionalData = bound(mediaId, index, index === pieces - 1);
    parts.push(new Blob([iv, await crypto.subtle.encrypt({ name: 'AES-GCM', iv, additionalData }, imported, plain)]));
  }
  const sealed = new Blob(parts);
  return { key, sealed, sha256: await hashOf(sealed) };
}

/** @param {Blob} blob @returns {Promise<Bytes>} Hashed piece by piece, which WebCrypto cannot do. */
async function hashOf(blob) {
  const state = hash.create();
  for (let at = 0; at < blob.size; at += PIECE_BYTES) state.update(new Uint8Array(await blob.slice(at, at + PIECE_BYTES).arrayBuffer()));
  return copy(state.digest());
}

/**
 * Open a sealed file.
 *
 * @param {string} mediaId
 * @param {Pick<MediaInfo, 'key' | 'sha256' | 'type'>} info
 * @param {Blob} sealed
 * @param {AbortSignal} [signal]
 * @returns {Promise<Blob>}
 * @throws {E2eeError} `unsupported`, `cannot_open` when it is not the file that the info names, or a piece was changed, moved or cut off.
 */
export async function openFile(mediaId, { key, sha256, type }, sealed, signal) {
  const version = new Uint8Array(await sealed.slice(0, 1).arrayBuffer())[0];
  if (version !== VERSION) throw new E2eeError('unsupported', `a file of version ${version ?? 'missing'}, not ${VERSION}`);
  if (!equal(await hashOf(sealed), sha256)) throw new E2eeError('cannot_open', 'the file is not the one that its info names');
  const imported = await importKey(key, 'decrypt');
  const pieces = Math.ceil((sealed.size - 1) / SEALED_PIECE_BYTES);
  /** @type {Blob[]} */
  const parts = [];
  for (let index = 0; index < pieces; index++) {
    signal?.throwIfAborted();
    const start = 1 + index * SEALED_PIECE_BYTES;
    const piece = new Uint8Array(await sealed.slice(start, start + SEALED_PIECE_BYTES).arrayBuffer());
    const iv = copy(piece.subarray(0, NONCE_BYTES));
    const additionalData = bound(mediaId, index, index === pieces - 1);
    try {
      parts.push(
        new Blob([await crypto.subtle.decrypt({ name: 'AES-GCM', iv, additionalData }, imported, copy(piece.subarray(NONCE_BYTES)))]),
      );
    } catch {
      throw new E2eeError('cannot_open', `piece ${index} of ${pieces} does not open`);
    }
  }
  if (pieces === 0) throw new E2eeError('cannot_open', 'a file without a piece');
  return new Blob(parts, { type });
}
