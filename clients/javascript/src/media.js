/** Encrypted media: up in chunks, down in pieces, both resumed where they stopped. Loaded when first used. */
import { BACKOFF, delayMs } from './backoff.js';
import { OrbitalError, wrap } from './errors.js';
import { Sha256 } from './sha256.js';
import { uuid } from './uuid.js';

/** @import {Http} from './http.js' */

/** Bytes of a chunk. The server takes 5 MiB; 4 leave room for the rest of the form. A resumed upload must cut as the first one did. */
export const CHUNK_BYTES = 4 * 1024 * 1024;
/** Chunks on their way at a time: enough to fill a line of 100 ms and 500 Mbit/s, and 12 MiB of memory. */
export const PARALLEL = 3;
/** Tries in a row without a byte of progress. */
export const TRIES = 8;

const RETRY = { ...BACKOFF, spread_ms: 1000 };

/** @typedef {{loaded: number, total: number}} Progress Bytes that are through, of all. */

/**
 * @typedef {object} UploadOptions
 * @property {string} thread_id
 * @property {Blob | ReadableStream<Uint8Array> | AsyncIterable<Uint8Array>} data What was encrypted; a File is a Blob.
 * @property {number} [size] Bytes of `data`; must be given for a stream.
 * @property {string} encrypted_metadata
 * @property {string} encryption_iv
 * @property {string | undefined} [media_id] A UUID; give that of an upload that was broken off, and only what the server lacks is sent.
 * @property {((progress: Progress) => void) | undefined} [onProgress]
 * @property {AbortSignal | undefined} [signal] Breaks the upload off; it can be resumed.
 */

/** @typedef {{media_id: string, size_bytes: number, expires_at: string, sha256: string}} Uploaded `sha256`: of the encrypted bytes, in hex. */

/**
 * @typedef {object} DownloadOptions
 * @property {string | undefined} [sha256] In hex: throw `HASH_MISMATCH` when the bytes are not those.
 * @property {((progress: Progress) => void) | undefined} [onProgress]
 * @property {AbortSignal | undefined} [signal]
 */

/** @typedef {{blob: Blob, encryption_iv: string | null, expires_at: string | null, sha256: string}} Downloaded */

/**
 * Upload a medium. Chunks are read in order and sent side by side; one that fails is sent again.
 *
 * @param {Http} api
 * @param {UploadOptions} options
 * @returns {Promise<Uploaded>}
 * @throws {OrbitalError} The server's, or `NETWORK` after eight tries of one chunk; `signal.reason` when broken off.
 */
export async function uploadMedia(api, options) {
  const { thread_id, data, encrypted_metadata, encryption_iv, media_id = uuid(), onProgress, signal } = options;
  const total = data instanceof Blob ? data.size : options.size;
  if (!total) throw new OrbitalError('VALIDATION_ERROR', 'a medium has at least one byte, and a stream needs its `size`');
  const total_chunks = Math.ceil(total / CHUNK_BYTES);
  const had = new Set(options.media_id ? await chunksReceived(api, media_id, total_chunks, signal) : []);
  const hash = new Sha256();
  // One chunk that fails for good stops the others.
  const abort = new AbortController();
  const cancel = () => abort.abort(signal?.reason);
  if (signal?.aborted) cancel();
  signal?.addEventListener('abort', cancel);
  /** @type {any} */
  let completed;
  let loaded = 0;

  /**
   * @param {number} index
   * @param {Uint8Array<ArrayBuffer>} bytes
   */
  const send = async (index, bytes) => {
    const form = new FormData();
    const fields = { media_id, thread_id, chunk_index: index, total_chunks, encrypted_metadata, encryption_iv };
    for (const [name, value] of Object.entries(fields)) form.set(name, String(value));
    form.set('chunk', new Blob([bytes]), 'chunk');
    await patiently(abort.signal, async () => {
      await api.request('POST', '/api/media/upload', { body: form, signal: abort.signal, timeoutMs: 0 }, async (response) => {
        const answer = await response.json();
        if (response.status === 201) completed = answer;
      });
    });
    arrived(bytes.length);
  };
  /** @param {number} bytes */
  const arrived = (bytes) => onProgress?.({ loaded: (loaded += bytes), total });

  /** @type {Set<Promise<void>>} */
  const sending = new Set();
  try {
    let index = 0;
    let size = 0;
    for await (const bytes of chunks(data)) {
      abort.signal.throwIfAborted();
      if ((size += bytes.length) > total) break;
      hash.update(bytes);
      if (had.has(index)) arrived(bytes.length);
      else {
        const one = send(index, bytes).finally(() => sending.delete(one));
        one.catch(() => {});
        sending.add(one);
      }
      index++;
      if (sending.size >= PARALLEL) await Promise.race(sending);
    }
    if (size !== total) throw new OrbitalError('VALIDATION_ERROR', `the data is not of its size: ${total} bytes were announced`);
    await Promise.all(sending);
    // The answer that said 201 may have been lost on the way, or have gone to an earlier run.
    completed ??= await patiently(abort.signal, () =>
      api.request(
        'POST',
        '/api/media/upload/complete',
        { body: JSON.stringify({ media_id }), headers: { 'Content-Type': 'application/json' }, signal: abort.signal },
        (response) => response.json(),
      ),
    );
  } catch (cause) {
    abort.abort(cause);
    await Promise.allSettled(sending);
    throw cause;
  } finally {
    signal?.removeEventListener('abort', cancel);
  }
  return { media_id, size_bytes: completed.size_bytes, expires_at: completed.expires_at, sha256: hex(hash.digest()) };
}

/**
 * Download a medium as a Blob. A line that breaks is taken up again where it broke.
 *
 * @param {Http} api
 * @param {string} mediaId
 * @param {DownloadOptions} [options]
 * @returns {Promise<Downloaded>}
 * @throws {OrbitalError} `GONE` once expired; `HASH_MISMATCH`; `NETWORK` after eight tries without a byte.
 */
export async function downloadMedia(api, mediaId, { sha256, onProgress, signal } = {}) {
  const hash = new Sha256();
  /** @type {Uint8Array<ArrayBuffer>[]} */
  const parts = [];
  let loaded = 0;
  let head;
  for await (const { bytes, headers, total } of pieces(api, mediaId, signal)) {
    head = headers;
    parts.push(bytes);
    hash.update(bytes);
    onProgress?.({ loaded: (loaded += bytes.length), total });
  }
  const found = hex(hash.digest());
  if (sha256 && sha256.toLowerCase() !== found)
    throw new OrbitalError('HASH_MISMATCH', 'these are not the bytes that were uploaded', { details: { expected: sha256, found } });
  return {
    blob: new Blob(parts),
    encryption_iv: head?.get('X-Encryption-IV') ?? null,
    expires_at: head?.get('X-Expires-At') ?? null,
    sha256: found,
  };
}

/**
 * @param {Http} api
 * @param {string} mediaId
 * @param {AbortSignal | undefined} signal
 */
async function* pieces(api, mediaId, signal) {
  let at = 0;
  let total = Infinity;
  /** @type {Headers | undefined} */
  let head;
  for (let tries = 0; at < total; ) {
    const before = at;
    try {
      const etag = head?.get('ETag');
      const headers = head && at ? { Range: `bytes=${at}-`, ...(etag && { 'If-Range': etag }) } : {};
      const response = await api.request('GET', `/api/media/${encodeURIComponent(mediaId)}/download`, { headers, signal, timeoutMs: 0 });
      // RFC 9110 §13.1.5: 200 instead of 206 is another blob than the one that we have the beginning of.
      if (at && response.status !== 206) throw new OrbitalError('GONE', 'the medium changed while it was downloaded', { status: 410 });
      head ??= response.headers;
      if (!at) total = Number(response.headers.get('Content-Length') ?? Infinity);
      const reader = /** @type {ReadableStream<Uint8Array<ArrayBuffer>>} */ (response.body).getReader();
      try {
        for (let read; !(read = await reader.read()).done; ) {
          at += read.value.length;
          yield { bytes: read.value, headers: head, total };
        }
      } finally {
        // Whoever stops reading wants the line free.
        void reader.cancel().catch(() => {});
      }
      if (total === Infinity) return;
      if (at < total) throw new OrbitalError('NETWORK', 'the line broke');
    } catch (cause) {
      signal?.throwIfAborted();
      const error = wrap('NETWORK', cause);
      tries = at > before ? 0 : tries + 1;
      if (!error.retryable || tries >= TRIES) throw error;
      await pause(error, tries, signal);
    }
  }
}

/**
 * @param {Http} api
 * @param {string} mediaId
 * @param {number} totalChunks
 * @param {AbortSignal | undefined} signal
 * @returns {Promise<number[]>} Indexes that the server has.
 */
async function chunksReceived(api, mediaId, totalChunks, signal) {
  try {
    const path = `/api/media/${encodeURIComponent(mediaId)}/upload`;
    const { chunks_received, total_chunks } = await api.request('GET', path, { signal }, (response) => response.json());
    if (total_chunks !== totalChunks)
      throw new OrbitalError('INVALID_CHUNK', `the upload was begun with ${total_chunks} chunks, and would now have ${totalChunks}`);
    return chunks_received;
  } catch (cause) {
    // Nothing of it arrived before it was broken off.
    if (cause instanceof OrbitalError && cause.status === 404) return [];
    throw cause;
  }
}

/**
 * Cut what is to be sent into chunks.
 *
 * @param {UploadOptions['data']} data
 * @returns {AsyncGenerator<Uint8Array<ArrayBuffer>, void>}
 */
async function* chunks(data) {
  if (data instanceof Blob) {
    for (let at = 0; at < data.size; at += CHUNK_BYTES) yield new Uint8Array(await data.slice(at, at + CHUNK_BYTES).arrayBuffer());
    return;
  }
  let chunk = new Uint8Array(CHUNK_BYTES);
  let used = 0;
  for await (const bytes of Symbol.asyncIterator in data ? data : read(data)) {
    for (let at = 0; at < bytes.length; ) {
      const taken = Math.min(CHUNK_BYTES - used, bytes.length - at);
      chunk.set(bytes.subarray(at, at + taken), used);
      at += taken;
      used += taken;
      if (used === CHUNK_BYTES) {
        yield chunk;
        chunk = new Uint8Array(CHUNK_BYTES);
        used = 0;
      }
    }
  }
  if (used) yield chunk.subarray(0, used);
}

/** @param {ReadableStream<Uint8Array>} stream For browsers that cannot iterate over one. */
async function* read(stream) {
  const reader = stream.getReader();
  try {
    for (let next; !(next = await reader.read()).done; ) yield next.value;
  } finally {
    void reader.cancel().catch(() => {});
  }
}

/**
 * @template T
 * @param {AbortSignal} signal
 * @param {() => Promise<T>} act
 * @returns {Promise<T>}
 */
async function patiently(signal, act) {
  for (let tries = 1; ; tries++) {
    try {
      return await act();
    } catch (cause) {
      signal.throwIfAborted();
      const error = wrap('NETWORK', cause);
      if (!error.retryable || tries >= TRIES) throw error;
      await pause(error, tries, signal);
    }
  }
}

/**
 * @param {OrbitalError} error
 * @param {number} failures
 * @param {AbortSignal | undefined} signal
 */
async function pause(error, failures, signal) {
  const ms = delayMs(RETRY, failures - 1, Math.random(), error.retryAfterMs);
  await new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', done);
      resolve(0);
    };
    const timer = setTimeout(done, ms);
    signal?.addEventListener('abort', done);
  });
  signal?.throwIfAborted();
}

/** @param {Uint8Array} bytes */
const hex = (bytes) => [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('');
