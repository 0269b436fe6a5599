/** Media: up in chunks, down in pieces, both resumed where they stopped. */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { createServer } from 'node:http';
import { afterEach, beforeEach, test } from 'node:test';
import { Sha256 } from '../src/sha256.js';
import { BACKOFF, delayMs } from '../src/backoff.js';
import { CHUNK_BYTES, CHUNK_MS, MAX_FILE_BYTES, PARALLEL, PROGRESS_BYTES, PROGRESS_MS, STALL_MS, TRIES } from '../src/media.js';
import { OrbitalClient } from '../src/index.js';
import { uuid } from '../src/uuid.js';
import { hurry, until } from './fake.js';

const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex');
const about = { thread_id: 'th1', encrypted_metadata: 'bWV0YQ==', encryption_iv: 'aXY=' };

/** A server of media alone, with handles to break it. */
class MediaServer {
  uploads = new Map();
  calls = [];
  busy = 0;
  most = 0;
  upload = () => null;
  download = () => null;
  etag = '"e1"';
  swallows = false;
  /** Bytes that each drop has. */
  dropBytes = 1;

  async listen() {
    this.http = createServer((request, response) => this.#serve(request, response).catch((error) => response.destroy(error)));
    await new Promise((resolve) => this.http.listen(0, '127.0.0.1', resolve));
    this.url = `http://127.0.0.1:${this.http.address().port}`;
    return this;
  }

  async #serve(request, response) {
    const chunks = [];
    this.most = Math.max(this.most, ++this.busy);
    try {
      for await (const chunk of request) chunks.push(chunk);
      await new Promise((resolve) => setTimeout(resolve, 5));
    } finally {
      this.busy--;
    }
    const answer = (status, body) => {
      response.writeHead(status, { 'Content-Type': 'application/json' });
      response.end(JSON.stringify(body));
    };
    const [, id, what] = /^\/api\/media\/([^/]+)(?:\/([^/]+))?$/.exec(request.url);
    this.calls.push(`${request.method} ${request.url}`);
    if (what === 'upload' && request.method === 'GET') {
      const upload = this.uploads.get(id);
      return upload
        ? answer(200, { chunks_received: [...upload.chunks.keys()], total_chunks: upload.total })
        : answer(404, { error: 'NOT_FOUND', message: '', details: {} });
    }
    if (id === 'upload' && !what) {
      const form = await new Response(Buffer.concat(chunks), { headers: { 'Content-Type': request.headers['content-type'] } }).formData();
      const index = Number(form.get('chunk_index'));
      const refusal = this.upload(index, form);
      if (refusal === 'cut') return response.destroy();
      // The connection swallows it: nothing comes back, and nothing ends.
      if (refusal === 'swallow') return;
      if (refusal) return answer(...refusal);
      const media = form.get('media_id');
      const upload = this.uploads.get(media) ?? {
        chunks: new Map(),
        total: Number(form.get('total_chunks')),
        form: Object.fromEntries(form),
      };
      this.uploads.set(media, upload);
      upload.chunks.set(index, Buffer.from(await form.get('chunk').arrayBuffer()));
      if (upload.chunks.size < upload.total)
        return answer(200, { media_id: media, chunk_index: index, chunks_received: upload.chunks.size, total_chunks: upload.total });
      return answer(201, { media_id: media, size_bytes: this.bytes(media).length, uploaded_at: 'now', expires_at: 'later' });
    }
    if (id === 'upload') {
      const { media_id } = JSON.parse(Buffer.concat(chunks).toString());
      return answer(200, { media_id, status: 'complete', size_bytes: this.bytes(media_id).length, expires_at: 'later' });
    }
    const bytes = this.bytes(id);
    const from = Number(/bytes=(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? 0);
    const limit = this.download(from, request.headers);
    if (limit === 'portal') return response.writeHead(200, { 'Content-Type': 'text/html' }).end('<html>');
    if (Array.isArray(limit)) return answer(...limit);
    response.writeHead(from && limit !== 'changed' ? 206 : 200, {
      'Content-Length': bytes.length - from,
      ...(from && { 'Content-Range': `bytes ${from}-${bytes.length - 1}/${bytes.length}` }),
      ETag: this.etag,
      'X-Encryption-IV': 'aXY=',
      'X-Expires-At': 'later',
    });
    if (limit === 'drip') {
      let at = from;
      const dripping = setInterval(() => response.write(bytes.subarray(at, (at += this.dropBytes))), 2);
      return response.on('close', () => clearInterval(dripping));
    }
    if (typeof limit === 'number') return response.write(bytes.subarray(from, from + limit), () => this.swallows || response.destroy());
    response.end(bytes.subarray(from));
  }

  bytes(id) {
    const { chunks, total } = this.uploads.get(id);
    return Buffer.concat(Array.from({ length: total }, (_, i) => chunks.get(i)));
  }

  keep(bytes) {
    const id = uuid();
    this.uploads.set(id, { chunks: new Map([[0, bytes]]), total: 1 });
    return id;
  }

  close() {
    this.http.closeAllConnections();
    return new Promise((resolve) => this.http.close(resolve));
  }
}

let server;
let client;
const bytes = randomBytes(CHUNK_BYTES * 5 + 12345);

beforeEach(async () => {
  server = await new MediaServer().listen();
  client = new OrbitalClient(server.url, { token: 't1' });
});
afterEach(() => server.close());

test('[SDKMEDIA1] the incremental hash equals the platform’s', () => {
  for (const length of [0, 1, 55, 56, 63, 64, 65, 1000, 70_001]) {
    const part = bytes.subarray(0, length);
    const hash = new Sha256();
    for (let at = 0; at < length; at += 37) hash.update(part.subarray(at, Math.min(at + 37, length)));
    assert.equal(Buffer.from(hash.digest()).toString('hex'), sha256(part), `${length} bytes`);
  }
});

test('[SDKMEDIA2] uuid() returns a different version 4 UUID each time', () => {
  const made = Array.from({ length: 100 }, uuid);
  for (const one of made) assert.match(one, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  assert.equal(new Set(made).size, 100);
});

test('[SDKMEDIA3] a Blob is uploaded in chunks, a few at a time, with progress and hash', async () => {
  const progress = [];
  const done = await client.uploadMedia({ ...about, data: new Blob([bytes]), onProgress: (one) => progress.push(one) });

  assert.deepEqual(done, { media_id: done.media_id, size_bytes: bytes.length, expires_at: 'later', sha256: sha256(bytes) });
  assert.ok(server.bytes(done.media_id).equals(bytes));
  assert.equal(progress.length, 6);
  assert.deepEqual(progress.at(-1), { loaded: bytes.length, total: bytes.length });
  assert.ok(progress.every(({ loaded }, i) => !i || loaded > progress[i - 1].loaded));
  assert.ok(server.most <= PARALLEL && server.most > 1, `${server.most} at a time`);
  const { thread_id, encrypted_metadata, encryption_iv, total_chunks } = server.uploads.get(done.media_id).form;
  assert.deepEqual({ thread_id, encrypted_metadata, encryption_iv, total_chunks }, { ...about, total_chunks: '6' });
});

for (const [what, make] of [
  ['a ReadableStream', () => new Blob([bytes]).stream()],
  [
    'an async iterable',
    async function* () {
      for (let at = 0; at < bytes.length; at += 100_003) yield bytes.subarray(at, at + 100_003);
    },
  ],
])
  test(`[SDKMEDIA4] ${what} is uploaded without being held in memory`, async () => {
    const done = await client.uploadMedia({ ...about, data: make(), size: bytes.length });
    assert.ok(server.bytes(done.media_id).equals(bytes));
    assert.equal(done.sha256, sha256(bytes));
  });

test('[SDKMEDIA5] a stream without a size, or of another size, is refused before sending', async () => {
  const upload = (size) => client.uploadMedia({ ...about, data: new Blob([bytes]).stream(), ...(size && { size }) });
  await assert.rejects(upload(), { code: 'VALIDATION_ERROR' });
  await assert.rejects(upload(bytes.length - 1), { code: 'VALIDATION_ERROR' });
  await assert.rejects(upload(bytes.length + 1), { code: 'VALIDATION_ERROR' });
});

test('[SDKMEDIA6] a failed chunk is sent again, and a lost 201 is requested again', async (t) => {
  hurry(t, 100);
  const failed = new Set();
  server.upload = (index) => {
    if (failed.has(index)) return null;
    failed.add(index);
    return index % 2 ? 'cut' : [503, { error: 'UNAVAILABLE', message: '', details: {} }];
  };
  const done = await client.uploadMedia({ ...about, data: new Blob([bytes]) });
  assert.ok(server.bytes(done.media_id).equals(bytes));
});

test('[SDKMEDIA7] a chunk that the server refuses ends the upload', async () => {
  server.upload = (index) => (index === 1 ? [413, { error: 'QUOTA_EXCEEDED', message: 'full', details: {} }] : null);
  await assert.rejects(client.uploadMedia({ ...about, data: new Blob([bytes]) }), { code: 'QUOTA_EXCEEDED', status: 413 });
  assert.ok(server.calls.length < 6);
});

test('[SDKMEDIA8] a cancelled upload resumes under the same id: only the missing chunks are sent', async () => {
  const media_id = uuid();
  const abort = new AbortController();
  const first = client.uploadMedia({
    ...about,
    media_id,
    data: new Blob([bytes]),
    signal: abort.signal,
    onProgress: ({ loaded }) => loaded > 2 * CHUNK_BYTES && abort.abort(new Error('changed my mind')),
  });
  await assert.rejects(first, { message: 'changed my mind' });
  await until(() => !server.busy);
  const had = server.uploads.get(media_id).chunks.size;
  assert.ok(had >= 2 && had < 6, `${had} chunks`);
  server.calls.length = 0;
  const progress = [];
  const done = await client.uploadMedia({ ...about, media_id, data: new Blob([bytes]), onProgress: (one) => progress.push(one.loaded) });

  assert.equal(server.calls.filter((call) => call === 'POST /api/media/upload').length, 6 - had);
  assert.equal(progress.at(-1), bytes.length);
  assert.equal(done.sha256, sha256(bytes));
  assert.ok(server.bytes(media_id).equals(bytes));
  server.calls.length = 0;
  assert.equal((await client.uploadMedia({ ...about, media_id, data: new Blob([bytes]) })).size_bytes, bytes.length);
  assert.deepEqual(server.calls, [`GET /api/media/${media_id}/upload`, 'POST /api/media/upload/complete']);
});

test('[SDKMEDIA9] another file under the same id is refused before sending', async () => {
  const { media_id } = await client.uploadMedia({ ...about, data: new Blob([bytes]) });
  await assert.rejects(client.uploadMedia({ ...about, media_id, data: new Blob(['x']) }), { code: 'INVALID_CHUNK' });
});

test('[SDKMEDIA10] a download returns the bytes, their hash and the metadata, with progress', async () => {
  const progress = [];
  const { blob, ...rest } = await client.downloadMedia(server.keep(bytes), {
    sha256: sha256(bytes),
    onProgress: (one) => progress.push(one),
  });

  assert.ok(Buffer.from(await blob.arrayBuffer()).equals(bytes));
  assert.deepEqual(rest, { encryption_iv: 'aXY=', expires_at: 'later', sha256: sha256(bytes) });
  assert.deepEqual(progress.at(-1), { loaded: bytes.length, total: bytes.length });
});

test('[SDKMEDIA11] an interrupted download resumes at the byte where it stopped', async (t) => {
  hurry(t, 100);
  const seen = [];
  server.download = (from, headers) => (seen.push([from > 0, headers['if-range']]), seen.length < 4 ? 5_000_000 : null);
  const { blob } = await client.downloadMedia(server.keep(bytes));

  assert.ok(Buffer.from(await blob.arrayBuffer()).equals(bytes));
  assert.ok(seen.length >= 4);
  assert.deepEqual(seen[0], [false, undefined]);
  assert.deepEqual(seen.at(-1), [true, '"e1"']);
});

test('[SDKMEDIA12] a medium that changed meanwhile is not used to resume a download', async (t) => {
  hurry(t, 100);
  let calls = 0;
  server.download = () => (calls++ ? 'changed' : 5_000_000);
  await assert.rejects(client.downloadMedia(server.keep(bytes)), { code: 'GONE' });
});

test('[SDKMEDIA13] bytes other than announced throw HASH_MISMATCH; an expired medium throws GONE', async () => {
  const id = server.keep(Buffer.from('forged'));
  await assert.rejects(client.downloadMedia(id, { sha256: sha256('true') }), { code: 'HASH_MISMATCH' });
  server.download = () => [410, { error: 'GONE', message: 'expired', details: {} }];
  await assert.rejects(client.downloadMedia(id), { code: 'GONE', status: 410 });
});

test('[SDKMEDIA14] a download can be cancelled', async () => {
  const abort = new AbortController();
  await assert.rejects(
    client.downloadMedia(server.keep(bytes), { signal: abort.signal, onProgress: () => abort.abort(new Error('enough')) }),
    { message: 'enough' },
  );
});

test('[MWD1] a download on a connection that drops data resumes where it stopped, on another connection', async (t) => {
  hurry(t, STALL_MS / 1500);
  server.swallows = true;
  const from = [];
  server.download = (at) => (from.push(at), from.length === 1 ? 5_000_000 : null);
  const { blob } = await client.downloadMedia(server.keep(bytes));

  assert.ok(Buffer.from(await blob.arrayBuffer()).equals(bytes));
  assert.ok(from.length >= 2 && from[1] > 0, `asked from ${from}`);
});

test('[MWD8] a chunk that a connection drops is sent again', async (t) => {
  hurry(t, CHUNK_MS / 1500);
  const swallowed = new Set();
  server.upload = (index) => (swallowed.has(index) ? null : (swallowed.add(index), index === 1 ? 'swallow' : null));
  const done = await client.uploadMedia({ ...about, data: new Blob([bytes]) });

  assert.ok(server.bytes(done.media_id).equals(bytes));
  assert.ok(server.calls.filter((call) => call === 'POST /api/media/upload').length > 6);
});

/** Let the waits of a test, and the clock that measures them, run so many times faster. */
function hasten(t, times) {
  const { setTimeout } = globalThis;
  const clock = performance.now.bind(performance);
  t.mock.method(globalThis, 'setTimeout', (then, ms = 0, ...args) => setTimeout(then, ms / times, ...args));
  t.mock.method(performance, 'now', () => clock() * times);
}

test('[DRP1] a download that only trickles is requested again from where it stopped', async (t) => {
  hasten(t, PROGRESS_MS / 1500);
  const from = [];
  server.download = (at) => (from.push(at), from.length === 1 ? 'drip' : null);
  const { blob } = await client.downloadMedia(server.keep(bytes));

  assert.ok(Buffer.from(await blob.arrayBuffer()).equals(bytes));
  assert.equal(from.length, 2);
  assert.ok(from[1] > 0 && from[1] < PROGRESS_BYTES, `asked from ${from}`);
});

test('[DRP2] a server that only trickles ends a download with an error, after eight tries', async (t) => {
  hasten(t, PROGRESS_MS / 1500);
  const from = [];
  server.download = (at) => (from.push(at), 'drip');

  await assert.rejects(client.downloadMedia(server.keep(bytes)), {
    code: 'NETWORK',
    message: `the download is too slow: less than ${PROGRESS_BYTES} bytes came in ${PROGRESS_MS / 1000} s`,
  });
  assert.equal(from.length, TRIES);
  assert.ok(
    from.every((at, i) => !i || at > from[i - 1]),
    `asked from ${from}`,
  );
});

test('[DRP3] a slow connection above the minimum rate is not interrupted, and the time of the application is not counted', async (t) => {
  hasten(t, PROGRESS_MS / 3000);
  server.dropBytes = PROGRESS_BYTES;
  let calls = 0;
  server.download = () => (calls++, 'drip');
  let pauses = 0;
  const { blob } = await client.downloadMedia(server.keep(bytes.subarray(0, PROGRESS_BYTES * 40)), {
    onProgress: () => {
      // A blocked application: longer than the connection may take.
      if (pauses++ === 3) for (const end = performance.now() + PROGRESS_MS * 1.2; performance.now() < end; );
    },
  });

  assert.equal(blob.size, PROGRESS_BYTES * 40);
  assert.equal(calls, 1);
});

test('[MWD2] after an interruption with progress the wait is the shortest step', async (t) => {
  assert.equal(delayMs(BACKOFF, -1, 0), BACKOFF.steps_ms[0]);
  const { setTimeout } = globalThis;
  const waits = [];
  t.mock.method(globalThis, 'setTimeout', (then, ms = 0, ...args) => (waits.push(ms), setTimeout(then, ms, ...args)));
  const at = [];
  server.download = (from) => (at.push(from), at.length === 1 ? 5_000_000 : null);
  await client.downloadMedia(server.keep(bytes));

  assert.ok(at[1] > 0, 'progress');
  // 1 to 2 s; the longest step would be 32 to 64. Deadlines, ours and the platform's, are 30 s or 60.
  const paused = waits.filter((ms) => ms >= BACKOFF.steps_ms[0] && ms !== 30_000 && ms !== PROGRESS_MS);
  assert.equal(paused.length, 1, `waits of ${paused} ms`);
  assert.ok(paused[0] < 2 * BACKOFF.steps_ms[0], `waits of ${paused} ms`);
});

test('[MWD3] a file above the limit is refused before a byte is sent', async () => {
  const data = (async function* () {
    yield assert.fail('read');
  })();
  await assert.rejects(client.uploadMedia({ ...about, data, size: MAX_FILE_BYTES + 1 }), {
    code: 'FILE_TOO_LARGE',
    details: { limit_bytes: MAX_FILE_BYTES },
  });
  await assert.rejects(client.uploadMedia({ ...about, data, size: 11, max_bytes: 10 }), { code: 'FILE_TOO_LARGE' });
  assert.deepEqual(server.calls, []);
});

test('[MWD4] an upload that was started with chunks of 4 MiB is resumed with the same chunks', async () => {
  const media_id = uuid();
  const size = 4 * 1024 * 1024;
  server.uploads.set(media_id, { chunks: new Map([[0, bytes.subarray(0, size)]]), total: Math.ceil(bytes.length / size), form: {} });
  await client.uploadMedia({ ...about, media_id, data: new Blob([bytes]) });

  assert.ok(server.bytes(media_id).equals(bytes));
});

test('[MWD5] resuming waits for an unreachable server, as its chunks do', async (t) => {
  hurry(t, 100);
  const { data, media_id } = { data: new Blob([bytes]), media_id: uuid() };
  let refused = 0;
  const away = new OrbitalClient(server.url, {
    token: 't1',
    fetch: (url, init) => (init.method === 'GET' && refused++ < 2 ? Promise.reject(new TypeError('fetch failed')) : fetch(url, init)),
  });
  assert.equal((await away.uploadMedia({ ...about, media_id, data })).size_bytes, bytes.length);
  assert.equal(refused, 3);
});

for (const [etag, sent] of [
  ['"e1"', '"e1"'],
  ['W/"e1"', undefined],
  ['"e1-gzip"', undefined],
])
  test(`[MWD6] an interrupted download with ETag ${etag} is completed`, async (t) => {
    hurry(t, 100);
    server.etag = etag;
    const seen = [];
    server.download = (_from, headers) => (
      seen.push(headers['if-range']),
      headers['if-range'] && headers['if-range'] !== '"e1"' ? 'changed' : seen.length === 1 ? 5_000_000 : null
    );
    const { blob } = await client.downloadMedia(server.keep(bytes));

    assert.equal(blob.size, bytes.length);
    assert.equal(seen.at(-1), sent);
  });

test('[MWD7] a portal’s page is not a medium, and bytes beyond the announced or allowed number are not read', async (t) => {
  hurry(t, 100);
  const id = server.keep(bytes);
  let portals = 0;
  server.download = () => (portals++ < 2 ? 'portal' : null);
  assert.equal((await client.downloadMedia(id)).blob.size, bytes.length);
  await assert.rejects(client.downloadMedia(id, { max_bytes: 1000 }), { code: 'FILE_TOO_LARGE' });
});

for (const status of [401, 403, 404, 410, 413, 426])
  test(`[PLC7] a proxy’s ${status} ends no transfer, and says nothing about the chunks that the server has`, async (t) => {
    hurry(t, 20);
    const lies = new Map();
    const away = new OrbitalClient(server.url, {
      token: 't1',
      fetch: async (url, init) => {
        const call = `${init.method} ${url}`;
        lies.set(call, (lies.get(call) ?? 0) + 1);
        return lies.get(call) <= 2 ? new Response('<html>', { status, headers: { 'Content-Type': 'text/html' } }) : fetch(url, init);
      },
    });
    const media_id = uuid();
    const small = bytes.subarray(0, CHUNK_BYTES + 100);
    server.uploads.set(media_id, { chunks: new Map([[0, bytes.subarray(0, CHUNK_BYTES)]]), total: 2, form: {} });
    const sent = new Set();
    server.upload = (index) => void sent.add(index);
    await away.uploadMedia({ ...about, media_id, data: new Blob([small]) });
    assert.deepEqual([...sent], [1]);
    assert.equal((await away.downloadMedia(media_id)).sha256, sha256(small));
  });
