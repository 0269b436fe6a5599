/** Media against the real server. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { OrbitalClient } from '../src/index.js';
import { Orbital, account, missing } from './orbital.js';

test('[SDKREAL1] media are uploaded and downloaded', { skip: missing }, async (t) => {
  const orbital = await new Orbital().start();
  t.after(() => orbital.close());
  const client = new OrbitalClient(orbital.url);
  const [{ group_id }] = await account(client.api, 'media', 1);
  const { thread_id } = await client.send(group_id, { type: 'thread', encrypted_title: 'dA==', encrypted_body: 'Yg==' });
  const bytes = new Uint8Array(9 * 1024 * 1024).map((_, i) => i * 7);
  const { media_id, sha256, size_bytes } = await client.uploadMedia({
    thread_id,
    data: new Blob([bytes]),
    encrypted_metadata: 'bQ==',
    encryption_iv: 'aXY=',
  });
  assert.equal(size_bytes, bytes.length);
  const { blob, encryption_iv } = await client.downloadMedia(media_id, { sha256 });
  assert.equal(blob.size, bytes.length);
  assert.equal(encryption_iv, 'aXY=');
  assert.equal((await client.api.quota(group_id)).media_count, 1);
  assert.equal((await client.api.threadMedia(thread_id))[0].media_id, media_id);
  client.close();
});
