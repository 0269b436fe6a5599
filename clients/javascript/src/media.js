/** Encrypted media: chunked upload and download, both resumable. Loaded when first used. */
import { BACKOFF, delayMs } from './backoff.js';
import { OrbitalError, wrap } from './errors.js';
import { foreign, readJson } from './http.js';
import { Sha256 } from './sha256.js';
import { after, sleep } from './timers.js';
import { uuid } from './uuid.js';

/** @import {Http} from './http.js' */

/** Bytes of a chunk: what the server takes, and what the Python SDK sends. */
export const CHUNK_BYTES = 5 * 1024 * 1024;
/** What an upload may have been begun with, by an earlier version: it is resumed as it was cut. */
const CHUNKS_BYTES = [CHUNK_BYTES, 4 * 1024 * 1024];
/** Chunks in flight at a time: enough to fill a connection of 100 ms and 500 Mbit/s, and 15 MiB of memory. */
export const PARALLEL = 3;
/** Tries in a row without progress. */
export const TRIES = 8;
/** The most bytes of a file that a server takes by default. */
export const MAX_FILE_BYTES = 500 * 1024 * 1024;
/** How long a download may stand still before it is asked for again. */
export const STALL_MS = 30_000;
/** So many bytes have to come within PROGRESS_MS of waiting for the network, or the connection counts as dead: 1 KB/s. The Python SDK has the same. */
export const PROGRESS_BYTES = 64 * 1024;
/** Milliseconds; the time that the application takes for the bytes is not counted. */
export const PROGRESS_MS = 60_000;
/** How long a chunk may take: of it no progress is seen. It doubles when it was too short for this connection, up to what 5 MiB take at 10 kB/s. */
export const CHUNK_MS = 60_000;
const MAX_CHUNK_MS = 512_000;

const RETRY = { ...BACKOFF, jitter_ms: 1000 };

const TOO_SLOW = `the download is too slow: less than ${PROGRESS_BYTES} bytes came in ${PROGRESS_MS / 1000} s`;

/** @typedef {{loaded: number, total: number}} Progress Bytes that are through, of all. */

/**
 * @typedef {object} UploadOptions
 * @property {string} thread_id
 * @property {Blob | ReadableStream<Uint8Array> | AsyncIterable<Uint8Array>} data What was encrypted; a File is a Blob.
 * @property {number} [size] Bytes of `data`; must be given for a stream.
 * @property {string} encrypted_metadata
 * @property {string} encryption_iv
 * @property {string | undefined} [media_id] A UUID; give that of an upload that was aborted, and only what the server lacks is sent.
 * @property {number | undefined} [if_epoch] The group's epoch that `encrypted_metadata` was encrypted for: when the group's is higher, `EPOCH_CHANGED`
 *   is thrown and nothing is posted. Call again with the same `media_id` and the newer epoch, or delete the medium first if its metadata changes:
 *   an upload that began with other metadata is refused with `INVALID_CHUNK`.
 * @property {((progress: Progress) => void) | undefined} [onProgress]
 * @property {AbortSignal | undefined} [signal] Aborts the upload; it can be resumed.
 * @property {number | undefined} [max_bytes] The server's limit for a file, if it is not 500 MiB: what is larger is refused before a byte is sent.
 */

/** @typedef {{media_id: string, size_bytes: number, expires_at: string, sha256: string}} Uploaded `sha256`: of the encrypted bytes, in hex. */

/**
 * @typedef {object} DownloadOptions
 * @property {string | undefined} [sha256] In hex: throw `HASH_MISMATCH` when the bytes are not those.
 * @property {((progress: Progress) => void) | undefined} [onProgress]
 * @property {AbortSignal | undefined} [signal]
 * @property {number | undefined} [max_bytes] The most that is taken in; 500 MiB when left out.
 */

/** @typedef {{blob: Blob, encryption_iv: string | null, expires_at: string | null, sha256: string}} Downloaded */

/**
 * Upload a medium. Chunks are read in order and sent side by side; one that fails is sent again.
 *
 * @param {Http} api
 * @param {UploadOptions} options
 * @returns {Promise<Uploaded>}
 * @throws {OrbitalError} The server's, or `NETWORK` (or `HTTP_…`) after eight tries of one chunk; `FILE_TOO_LARGE` before anything is sent; `signal.reason` when
 *   aborted.
 */
export async function uploadMedia(api, options) {
  const { thread_id, data, encrypted_metadata, encryption_iv, media_id = uuid() } = options;
  const { if_epoch, onProgress, signal, max_bytes = MAX_FILE_BYTES } = options;
  const total = data instanceof Blob ? data.size : options.size;
  if (!total) throw new OrbitalError('VALIDATION_ERROR', 'a medium has at least one byte, and a stream needs its `size`');
  if (total > max_bytes)
    throw new OrbitalError('FILE_TOO_LARGE', `a medium has at most ${max_bytes} bytes, this one has ${total}`, {
      details: { limit_bytes: max_bytes },
    });
  const { size: chunkBytes, had } = await begun(api, options, total);
  // The server compares a chunk's metadata with what the upload began with: without one, an upload for a former epoch would be completed.
  if (if_epoch !== undefined) had.delete(0);
  const total_chunks = Math.ceil(total / chunkBytes);
  const hash = new Sha256();
  // One chunk that fails permanently stops the others.
  const abort = new AbortController();
  const cancel = () => abort.abort(signal?.reason);
  if (signal?.aborted) cancel();
  signal?.addEventListener('abort', cancel);
  /** @type {any} */
  let completed;
  let loaded = 0;
  let chunkMs = CHUNK_MS;

  /**
   * @param {number} index
   * @param {Uint8Array<ArrayBuffer>} bytes
   */
  const send = async (index, bytes) => {
    const form = new FormData();
    const epoch = if_epoch === undefined ? {} : { if_epoch };
    const fields = { media_id, thread_id, chunk_index: index, total_chunks, encrypted_metadata, encryption_iv, ...epoch };
    for (const [name, value] of Object.entries(fields)) form.set(name, String(value));
    form.set('chunk', new Blob([bytes]), 'chunk');
    await patiently(abort.signal, async () => {
      const allowed = chunkMs;
      const dog = watchdog(abort.signal, allowed);
      try {
        await api.request('POST', '/api/media/upload', { body: form, signal: dog.signal, timeoutMs: 0 }, async (response) => {
          const answer = await readJson(response, 'media_id');
          if (response.status === 201) completed = answer;
        });
      } catch (cause) {
        if (dog.barked()) chunkMs = Math.max(chunkMs, Math.min(allowed * 2, MAX_CHUNK_MS));
        throw cause;
      } finally {
        dog.end();
      }
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
    for await (const bytes of chunks(data, chunkBytes)) {
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
      if (sending.size >= (index === 1 && if_epoch !== undefined ? 1 : PARALLEL)) await Promise.race(sending);
    }
    if (size !== total) throw new OrbitalError('VALIDATION_ERROR', `the data is not of its size: ${total} bytes were announced`);
    await Promise.all(sending);
    // The answer that said 201 may have been lost on the way, or have gone to an earlier run.
    completed ??= await patiently(abort.signal, () =>
      api.request(
        'POST',
        '/api/media/upload/complete',
        { body: JSON.stringify({ media_id, if_epoch }), headers: { 'Content-Type': 'application/json' }, signal: abort.signal },
        (response) => readJson(response, 'expires_at'),
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
 * Download a medium as a Blob. After a connection that broke, was silent for 30 s, or carried less than 64 KiB in 60 s, it resumes where it stopped.
 *
 * @param {Http} api
 * @param {string} mediaId
 * @param {DownloadOptions} [options]
 * @returns {Promise<Downloaded>}
 * @throws {OrbitalError} `GONE` once expired; `HASH_MISMATCH`; `NETWORK` after eight tries that carried less than 64 KiB each.
 */
export async function downloadMedia(api, mediaId, { sha256, onProgress, signal, max_bytes = MAX_FILE_BYTES } = {}) {
  const hash = new Sha256();
  /** @type {Uint8Array<ArrayBuffer>[]} */
  const parts = [];
  let loaded = 0;
  let head;
  for await (const { bytes, headers, total } of pieces(api, mediaId, signal)) {
    head = headers;
    parts.push(bytes);
    hash.update(bytes);
    loaded += bytes.length;
    if (loaded > Math.min(max_bytes, total)) throw new OrbitalError('FILE_TOO_LARGE', `more than ${Math.min(max_bytes, total)} bytes came`);
    onProgress?.({ loaded, total });
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
    const dog = watchdog(signal, STALL_MS);
    try {
      const etag = head?.get('ETag') ?? '';
      // A tag that a proxy made weak, or marked as compressed, is not the server's any more: it would send all again.
      const headers = at ? { Range: `bytes=${at}-`, ...(/^"(?!.*-(gzip|br|zstd)")/.test(etag) && { 'If-Range': etag }) } : {};
      const response = await api.request('GET', `/api/media/${encodeURIComponent(mediaId)}/download`, {
        headers,
        signal: dog.signal,
        timeoutMs: 0,
      });
      if (!response.headers.has('X-Encryption-IV')) throw foreign(response);
      // RFC 9110 §13.1.5: 200 instead of 206 is another blob than the one that we have the beginning of.
      if (at && response.status !== 206) throw new OrbitalError('GONE', 'the medium changed while it was downloaded', { status: 410 });
      if (at && !response.headers.get('Content-Range')?.startsWith(`bytes ${at}-`)) throw foreign(response);
      head ??= response.headers;
      // What a proxy compressed has another length on the wire.
      if (!at && !head.has('Content-Encoding')) total = Number(head.get('Content-Length') ?? Infinity);
      const reader = /** @type {ReadableStream<Uint8Array<ArrayBuffer>>} */ (response.body).getReader();
      let came = 0;
      let left = PROGRESS_MS;
      try {
        for (;;) {
          dog.feed(Math.min(left, STALL_MS), left < STALL_MS ? TOO_SLOW : undefined);
          const asked = performance.now();
          const read = await reader.read();
          if (read.done) break;
          // The application that takes the bytes may be slow: that is not the connection.
          dog.rest();
          at += read.value.length;
          left -= performance.now() - asked;
          if ((came += read.value.length) >= PROGRESS_BYTES) {
            came = 0;
            left = PROGRESS_MS;
          }
          yield { bytes: read.value, headers: head, total };
        }
      } finally {
        void reader.cancel().catch(() => {});
      }
      if (total === Infinity) return;
      if (at < total) throw new OrbitalError('NETWORK', 'the connection broke');
    } catch (cause) {
      signal?.throwIfAborted();
      const error = wrap('NETWORK', cause);
      // One byte a try is no progress: a server that drips would be asked without end.
      tries = at - before >= PROGRESS_BYTES ? 0 : tries + 1;
      if (!error.retryable || tries >= TRIES) throw error;
      await pause(error, tries, signal);
    } finally {
      dog.end();
    }
  }
}

/**
 * A signal that aborts with the caller's, and when nothing came for a time.
 *
 * @param {AbortSignal | undefined} signal
 * @param {number} ms
 */
function watchdog(signal, ms) {
  const abort = new AbortController();
  /** @type {OrbitalError | undefined} */
  let error;
  const stop = () => abort.abort(signal?.reason);
  if (signal?.aborted) stop();
  signal?.addEventListener('abort', stop);
  /** @type {any} */
  let timer;
  const dog = {
    signal: abort.signal,
    /** Something came: wait for more. @param {number} [waitMs] @param {string} [message] What to say when it does not come. */
    feed(waitMs = ms, message = `nothing came for ${ms / 1000} s`) {
      clearTimeout(timer);
      timer = after(waitMs, () => abort.abort((error = new OrbitalError('NETWORK', message))));
    },
    /** Whether it was the time, and not the caller. */
    barked: () => error !== undefined,
    rest: () => clearTimeout(timer),
    end() {
      clearTimeout(timer);
      signal?.removeEventListener('abort', stop);
    },
  };
  dog.feed();
  return dog;
}

/**
 * Ask what the server has of an upload.
 *
 * @param {Http} api
 * @param {UploadOptions} options
 * @param {number} total
 * @returns {Promise<{size: number, had: Set<number>}>} `size`: bytes of a chunk; `had`: indexes that the server has.
 */
async function begun(api, { media_id, signal }, total) {
  const had = new Set();
  if (!media_id) return { size: CHUNK_BYTES, had };
  try {
    const path = `/api/media/${encodeURIComponent(media_id)}/upload`;
    const { chunks_received, total_chunks } = await patiently(signal, () =>
      api.request('GET', path, { signal }, (response) => readJson(response, 'chunks_received')),
    );
    const size = CHUNKS_BYTES.find((bytes) => Math.ceil(total / bytes) === total_chunks);
    if (!size) throw new OrbitalError('INVALID_CHUNK', `the upload was begun with ${total_chunks} chunks: it was of another file`);
    return { size, had: new Set(chunks_received) };
  } catch (cause) {
    // Nothing of it arrived before it was aborted.
    if (cause instanceof OrbitalError && cause.status === 404) return { size: CHUNK_BYTES, had };
    throw cause;
  }
}

/**
 * Cut what is to be sent into chunks.
 *
 * @param {UploadOptions['data']} data
 * @param {number} size Bytes of a chunk.
 * @returns {AsyncGenerator<Uint8Array<ArrayBuffer>, void>}
 */
async function* chunks(data, size) {
  if (data instanceof Blob) {
    for (let at = 0; at < data.size; at += size) yield new Uint8Array(await data.slice(at, at + size).arrayBuffer());
    return;
  }
  let chunk = new Uint8Array(size);
  let used = 0;
  for await (const bytes of Symbol.asyncIterator in data ? data : read(data)) {
    for (let at = 0; at < bytes.length; ) {
      const taken = Math.min(size - used, bytes.length - at);
      chunk.set(bytes.subarray(at, at + taken), used);
      at += taken;
      used += taken;
      if (used === size) {
        yield chunk;
        chunk = new Uint8Array(size);
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
 * @param {AbortSignal | undefined} signal
 * @param {() => Promise<T>} act
 * @returns {Promise<T>}
 */
async function patiently(signal, act) {
  for (let tries = 1; ; tries++) {
    try {
      return await act();
    } catch (cause) {
      signal?.throwIfAborted();
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
  await sleep(ms, signal);
  signal?.throwIfAborted();
}

/** @param {Uint8Array} bytes */
const hex = (bytes) => [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('');
