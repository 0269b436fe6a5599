/** The figures script measures what it says. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { figures } from '../scripts/figures.js';

test('[SAFE13] The figures show the sizes of the contract, and measured times.', async () => {
  const { encryption, decryption, sealing, comparing, bytes } = await figures(20);
  assert.deepEqual(bytes, { envelope: 258, skdm: 96 });
  for (const ms of [encryption, decryption, sealing, comparing]) assert.ok(ms > 0 && Number.isFinite(ms));
});
