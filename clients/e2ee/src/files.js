/** Files of a group over the SDK: sealed under a key of their own, uploaded for one epoch, downloaded and opened. */
import { E2eeError } from './errors.js';
import { openFile, readMediaInfo } from './media.js';

/** @import { Item } from './contents.js' */
/** @import { MediaInfo } from './media.js' */
/** @import { Sdk } from './sdk-relay.js' */

/**
 * Where sealed files wait until the server has them, under the ids of their media.
 *
 * @typedef {object} SealedFiles
 * @property {(mediaId: string, sealed: Blob) => Promise<unknown>} set
 * @property {(mediaId: string) => Promise<Blob | undefined>} get
 * @property {(mediaId: string) => Promise<unknown>} delete
 */

/** What the server wants as an IV: every piece of the file has a nonce of its own. */
const NO_IV = 'AA==';
/** Refusals of a post whose metadata differs from what the upload began with. */
const OTHER_METADATA = 'INVALID_CHUNK';

/** @returns {SealedFiles} In memory: a file that is not sent when the process ends is lost. */
export function filesInMemory() {
  /** @type {Map<string, Blob>} */
  const files = new Map();
  return {
    set: async (mediaId, sealed) => files.set(mediaId, sealed),
    get: async (mediaId) => files.get(mediaId),
    delete: async (mediaId) => files.delete(mediaId),
  };
}

/** @param {any} api @param {string} mediaId @returns {Promise<boolean>} Whether the server has a medium that is complete. */
async function isThere(api, mediaId) {
  try {
    await api.media(mediaId);
    return true;
  } catch (error) {
    if (/** @type {any} */ (error).status === 404) return false;
    throw error;
  }
}

/**
 * Upload a sealed file for an epoch. An upload that an earlier seal of the draft began is deleted, so that no metadata for former members is completed.
 *
 * @param {Sdk} orbital
 * @param {SealedFiles} files The file is deleted there when the server has it.
 * @param {Record<string, any>} body
 * @param {number} [ifEpoch]
 * @param {(mediaId: string, progress: {loaded: number, total: number}) => void} [onProgress]
 * @returns {Promise<{seq: number}>} Number 0: the server's answer has none, so a medium that does not come back is not noticed as withheld.
 * @throws {E2eeError} `epoch_changed`; `conflict` when an earlier seal was accepted; `not_found` when the file is gone.
 * @throws What the SDK rejects with otherwise.
 */
export async function postFile(orbital, files, body, ifEpoch, onProgress) {
  const { media_id, thread_id, encrypted_metadata } = body;
  const { api } = orbital;
  const data = await files.get(media_id);
  if (!data) {
    if (await isThere(api, media_id)) return { seq: 0 };
    throw new E2eeError('not_found', `the sealed file of medium ${media_id} is gone before the server had it: send the file again`);
  }
  for (let deleted = false; ; deleted = true) {
    try {
      await orbital.uploadMedia({
        ...{ media_id, thread_id, data, encrypted_metadata, encryption_iv: NO_IV },
        ...(ifEpoch !== undefined && { if_epoch: ifEpoch }),
        ...(onProgress && { onProgress: (/** @type {{loaded: number, total: number}} */ progress) => onProgress(media_id, progress) }),
      });
      break;
    } catch (error) {
      const { code, details, message } = /** @type {any} */ (error);
      if (code === 'EPOCH_CHANGED') {
        await api.deleteMedia(media_id);
        throw new E2eeError('epoch_changed', message, { epoch: details.epoch });
      }
      if (code !== OTHER_METADATA || details?.field !== 'encrypted_metadata' || deleted) throw error;
      if (await isThere(api, media_id)) throw new E2eeError('conflict', `medium ${media_id} was accepted with an earlier seal`);
      await api.deleteMedia(media_id);
    }
  }
  await files.delete(media_id);
  return { seq: 0 };
}

/**
 * Download the file of an item, and open it.
 *
 * @param {Sdk} orbital
 * @param {Item} item A `media_uploaded` that was read.
 * @param {{signal?: AbortSignal, onProgress?: (progress: {loaded: number, total: number}) => void}} [options]
 * @returns {Promise<{info: MediaInfo, blob: Blob}>} Its bytes are the uploader's, every one.
 * @throws {E2eeError} `not_found` when the item is not a file that was read; `cannot_open` when the bytes are others.
 * @throws The SDK's `GONE` when the server has deleted it.
 */
export async function fetchFile(orbital, { type, seq, data, parts: [part] }, options = {}) {
  if (type !== 'media_uploaded' || !part) throw new E2eeError('not_found', `event ${seq} is not a file that was read`);
  const info = readMediaInfo(part.body);
  const mediaId = String(data.media_id);
  const { blob } = await orbital.downloadMedia(mediaId, options);
  return { info, blob: await openFile(mediaId, info, blob, options.signal) };
}
