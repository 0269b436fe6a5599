/** Encrypted photos and videos: in pieces, so that a long video needs little memory. */
import { toBase64 } from './bytes.js';
import { bound, decrypt, encrypt, NONCE_BYTES, TAG_BYTES, VERSION } from './envelope.js';

/** Plain bytes of one piece: small enough for a phone's memory, large enough that 28 bytes more do not matter. */
const PIECE_BYTES = 1024 * 1024;
const SEALED_PIECE_BYTES = NONCE_BYTES + PIECE_BYTES + TAG_BYTES;

/** @param {string} mediaId @param {number} index @param {boolean} last Authenticated, so that pieces cannot be swapped or truncated. */
const pieceKind = (mediaId, index, last) => `media/${mediaId}/${index}${last ? '/last' : ''}`;

/**
 * Seal a file.
 *
 * @param {CryptoKey} key
 * @param {string} groupId
 * @param {string} mediaId
 * @param {Blob} file
 * @param {AbortSignal} [signal]
 * @returns {Promise<{sealed: Blob, iv: string}>} `iv`: the first piece's nonce, which is also in `sealed`.
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
  if (version !== VERSION) throw new Error('this file has an unknown format');
  const parts = [];
  const pieces = Math.max(1, Math.ceil((sealed.size - 1) / SEALED_PIECE_BYTES));
  for (let index = 0; index < pieces; index++) {
    const at = 1 + index * SEALED_PIECE_BYTES;
    const piece = new Uint8Array(await sealed.slice(at, at + SEALED_PIECE_BYTES).arrayBuffer());
    parts.push(new Blob([await decrypt(key, bound(groupId, pieceKind(mediaId, index, index === pieces - 1)), piece)]));
  }
  return new Blob(parts, { type });
}
