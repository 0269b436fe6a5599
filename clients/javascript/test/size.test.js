/** What a page loads at once stays small. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { LIMIT, size } from '../scripts/size.js';

test('[SDKSIZE1] index.js and all its imports, minified and gzipped, are below 8.5 kB', async (t) => {
  const { bytes, files, later } = await size('index.js');
  t.diagnostic(`${bytes} bytes`);

  assert.ok(bytes < LIMIT, `${bytes} bytes`);
  assert.ok(files.has('connection.js') && files.has('manager.js') && files.has('client.js'));
  assert.deepEqual(later, ['advice.js', 'catch-up.js', 'media.js', 'outbox.js', 'rest.js', 'verify.js']);
});

test('[SDKSIZE2] a page needs no bundler: every import of src/ is a relative file, except Node’s modules and React', () => {
  const src = new URL('../src/', import.meta.url);
  const files = readdirSync(src);
  for (const file of files.filter((name) => !/^(react|file-store)\.js$/.test(name))) {
    const text = readFileSync(new URL(file, src), 'utf8');
    for (const [, path] of text.matchAll(/^(?:import|export)[^;]*? from '([^']+)'|import\('([^']+)'\)/gm))
      assert.ok(!path || files.includes(path.replace(/^\.\//, '')), `${file} imports ${path}`);
  }
});

test('[SDKSIZE3] there is no runtime dependency', () => {
  const { dependencies } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'));
  assert.equal(dependencies, undefined);
});
