/** The figures script measures what it says. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { missingDriver } from '../scripts/build-driver.js';
import { groupFigures } from '../scripts/figures-group.js';
import { figures } from '../scripts/figures.js';

test('[SAFE13] The figures show the sizes of the contract, and measured times.', async () => {
  const { encryption, decryption, sealing, comparing, bytes } = await figures(20);
  assert.deepEqual(bytes, { envelope: 258, skdm: 96 });
  for (const ms of [encryption, decryption, sealing, comparing]) assert.ok(ms > 0 && Number.isFinite(ms));
});

test('[FIGNODE1] The figures of a group are measured with encrypted files, for a text and for a removal.', {
  skip: missingDriver() ?? false,
}, async () => {
  const { default: Database } = await import('better-sqlite3-multiple-ciphers');
  const measured = await groupFigures(3, 2, Database);
  assert.deepEqual(Object.keys(measured), ['sending', 'reading', 'renewing', 'removal']);
  for (const ms of Object.values(measured)) assert.ok(ms > 0 && Number.isFinite(ms));
});
