/** fileStore: whole after every kill. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, test } from 'node:test';
import { fileStore } from '../src/file-store.js';
import { seeded } from './orbital.js';

let folder;
before(async () => (folder = await mkdtemp(join(tmpdir(), 'orbital-store-'))));
after(() => rm(folder, { recursive: true, force: true }));

test('[FST1] values persist across processes unchanged, readable by their user only', async () => {
  const path = join(folder, 'one');
  const store = await fileStore(path);
  const value = { seq: 5 };
  const writing = store.set('a', value);
  value.seq = 6;
  await Promise.all([writing, store.set('b', 'x'), store.set('c', null), store.delete('b'), store.delete('never')]);
  const again = await fileStore(path);

  assert.deepEqual([again.get('a'), again.get('b'), again.get('c')], [{ seq: 5 }, undefined, null]);
  assert.deepEqual([...again.keys()], ['a', 'c']);
  assert.equal((await stat(path)).mode & 0o777, 0o600);
});

for (const text of ['', '{"a":1}', '[["a"', '[5]'])
  test(`[FST2] an invalid store file (${text}) throws an error that names it, and is not changed`, async () => {
    const path = join(folder, 'other');
    await writeFile(path, text);
    await assert.rejects(fileStore(path), { code: 'VALIDATION_ERROR', message: new RegExp(path) });
    assert.equal(await readFile(path, 'utf8'), text);
  });

test('[FST3] a missing folder throws the file system’s error, for each caller', async () => {
  const store = await fileStore(join(folder, 'missing/store'));
  await assert.rejects(store.set('a', 1), { code: 'ENOENT' });
  await assert.rejects(store.set('a', 2), { code: 'ENOENT' });
});

const SEED = Number(process.env.SEED ?? 7);
test(`[FST4] after 30 kills at random moments the file is valid and has every confirmed value (seed ${SEED})`, {
  timeout: 900_000,
}, async () => {
  const random = seeded(SEED);
  const path = join(folder, 'killed');
  const program = join(folder, 'writer.mjs');
  await writeFile(
    program,
    `import { fileStore } from ${JSON.stringify(new URL('../src/file-store.js', import.meta.url).href)};
     const store = await fileStore(process.argv[2]);
     for (let n = store.get('n') ?? 0; ; ) {
       n++;
       const all = Array.from({ length: 8 }, (_, i) => store.set('draft' + i, { n, text: 'x'.repeat(3000) }));
       await Promise.all([...all, store.set('n', n)]);
       console.log(n);
     }`,
  );
  let confirmed = 0;
  for (let kill = 0; kill < 30; kill++) {
    const writer = spawn(process.execPath, [program, path], { stdio: ['ignore', 'pipe', 'inherit'] });
    const ended = new Promise((resolve) => writer.on('close', resolve));
    const first = confirmed;
    const target = first + 1 + Math.floor(random() * 30);
    const delay = random() * 3;
    for await (const line of createInterface({ input: writer.stdout })) {
      confirmed = Number(line);
      if (confirmed === target) setTimeout(() => writer.kill('SIGKILL'), delay);
    }
    await ended;
    const store = await fileStore(path);
    assert.ok(store.get('n') >= confirmed, `kill ${kill}: ${store.get('n')} is there, ${confirmed} was confirmed`);
    for (let i = 0; i < 8; i++) assert.equal(store.get(`draft${i}`).text.length, 3000);
    confirmed = store.get('n');
  }
});
