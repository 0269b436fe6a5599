/** A page in a real Chromium, under the page's Content-Security-Policy: IndexedDB, keys that cannot be read out, two tabs' chains. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { missing } from '../../javascript/test/chromium.js';
import { servePage } from './serve-page.js';

let page;
before(async () => {
  if (!missing) page = await servePage();
});
after(() => page?.close());

test('[SAFE6] In a page IndexedDB fulfils the contract of stores.', { skip: missing }, async () => {
  const tab = await page.tab();
  assert.equal(await tab.run(() => globalThis.contract()), 'kept');
  assert.deepEqual(tab.complaints, []);
});

test('[AUDJS3] In a page a store of the first version gets the table of frames, and keeps its rows.', { skip: missing }, async () => {
  const tab = await page.tab();
  assert.deepEqual(await tab.run(() => globalThis.upgraded()), { read: { text: 'two' }, rows: ['a row'] });
});

test('[SAFE7] In a page no private key can be exported and no row has plaintext; two tabs have a chain each and read all messages, also after a reload.', {
  skip: missing,
}, async () => {
  const tab = await page.tab();
  const seen = await tab.run(() => globalThis.family());
  assert.deepEqual(seen.reads, ['kept']);
  assert.ok(seen.handles >= 6, 'the identity and the X25519 half of every pre-key');
  assert.deepEqual(seen.shown, []);
  assert.deepEqual(seen.codes, []);
  const said = ['the canary sings', 'from the second tab', 'from Ben'];
  for (const who of ['ada', 'tab', 'ben']) assert.deepEqual(seen[who], said, who);
  await tab.go(page.url);
  assert.equal(await tab.run((group) => globalThis.again(group), seen.group), said.length);
  assert.deepEqual(tab.complaints, []);
});
