/** In a service worker, where `import()` is forbidden, `all.js` has every part. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { after, before, test } from 'node:test';
import { Chromium, missing } from './chromium.js';
import { FakeServer, until } from './fake.js';

let browser;
before(async () => {
  if (!missing) browser = await Chromium.open();
});
after(() => browser?.close());

const WORKER = `
import { OrbitalClient } from '/sdk/all.js';
addEventListener('message', ({ data: { group }, source }) => {
  const run = async () => {
    const client = new OrbitalClient(location.origin, { token: 't1', verify: true });
    const said = [];
    client.on('violation', ({ kind }) => said.push(kind));
    const { seq } = await client.send(group, { type: 'message', encrypted_envelope: 'bQ==' });
    const seqs = [];
    for await (const item of client.subscribe(group, { since: 0 })) {
      if (item.type === 'caught_up') break;
      seqs.push(item.seq);
    }
    const texts = await client.api.eventTexts(group);
    const media = await client.downloadMedia('m1').catch((error) => error.code);
    client.close();
    return { seq, seqs, texts: texts.length, media, said };
  };
  run().then((done) => source.postMessage(done), (error) => source.postMessage({ error: String(error) }));
});`;

test('[SWK1] a module service worker sends, verifies, receives, reads the log and loads media by /sdk/all.js', {
  skip: missing,
  timeout: 900_000,
}, async (t) => {
  const server = await new FakeServer().listen();
  t.after(() => server.kill());
  const group = server.log.group();
  server.intercept = async ({ path }, answer, response) => {
    const send = (type, body) => (response.writeHead(200, { 'Content-Type': type }).end(body), true);
    if (path === '/') return send('text/html', '<!doctype html><title>w</title>');
    if (path === '/worker.js') return send('text/javascript', WORKER);
    if (path.startsWith('/sdk/')) return send('text/javascript', await readFile(new URL(`../src/${path.slice(5)}`, import.meta.url)));
    if (path.startsWith('/api/media/')) return answer(410, { error: 'GONE', message: 'expired', details: {} });
    return false;
  };
  const tab = await browser.tab();
  await tab.go(`${server.url}/`);
  let done;
  await tab.expose('reported', (message) => (done = message));
  await tab.go(`${server.url}/`);
  await tab.run(async (id) => {
    navigator.serviceWorker.onmessage = ({ data }) => globalThis.reported(data);
    await navigator.serviceWorker.register('/worker.js', { type: 'module' });
    (await navigator.serviceWorker.ready).active.postMessage({ group: id });
  }, group);

  await until(() => done, 'the worker is done', 120_000);
  assert.deepEqual(done, { seq: 2, seqs: [1, 2], texts: 2, media: 'GONE', said: [] });
});
