/** A page in a real Chromium, under the page's Content-Security-Policy: IndexedDB, keys that cannot be read out, two tabs' chains. */
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { Chromium, missing } from '../../javascript/test/chromium.js';

const POLICY = "default-src 'none'; script-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
let browser, server, url;
before(async () => {
  if (missing) return;
  const { outputFiles } = await build({ entryPoints: [fileURLToPath(new URL('page.js', import.meta.url))], bundle: true, format: 'esm', target: 'es2022', write: false });
  server = createServer(({ url: path }, response) => {
    response.setHeader('Content-Security-Policy', POLICY);
    response.setHeader('Content-Type', path === '/page.js' ? 'text/javascript' : 'text/html');
    response.end(path === '/page.js' ? outputFiles[0].text : '<!doctype html><title>e2ee</title><script type="module" src="/page.js"></script>');
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  url = `http://127.0.0.1:${server.address().port}/`;
  browser = await Chromium.open();
});
after(async () => {
  await browser?.close();
  server?.close();
});

test('[SAFE6] In a page IndexedDB keeps the contract of stores.', { skip: missing }, async () => {
  const tab = await browser.tab();
  await tab.go(url);
  assert.equal(await tab.run(() => globalThis.contract()), 'kept');
  assert.deepEqual(tab.complaints, []);
});

test('[SAFE7] In a page no private key can be read out and no row shows plaintext; two tabs have a chain each and read all; a reload finds it.', { skip: missing }, async () => {
  const tab = await browser.tab();
  await tab.go(url);
  const seen = await tab.run(() => globalThis.family());
  assert.deepEqual(seen.reads, ['kept']);
  assert.ok(seen.handles >= 6, 'the identity and the X25519 half of every pre-key');
  assert.deepEqual(seen.shown, []);
  assert.deepEqual(seen.codes, []);
  const said = ['the canary sings', 'from the second tab', 'from Ben'];
  for (const who of ['ada', 'tab', 'ben']) assert.deepEqual(seen[who], said, who);
  await tab.go(url);
  assert.equal(await tab.run((group) => globalThis.again(group), seen.group), said.length);
  assert.deepEqual(tab.complaints, []);
});
