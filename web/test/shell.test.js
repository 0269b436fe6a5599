/** The list of files that the service worker keeps. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { dirname, join, posix } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const WEB = fileURLToPath(new URL('..', import.meta.url));
const SDK = join(WEB, '../clients/javascript/src');

/** @param {string} path As the page asks for it. */
const read = (path) => readFile(path.startsWith('/sdk/') ? join(SDK, path.slice(5)) : join(WEB, path), 'utf8');

/** @param {string} entry @param {Set<string>} found Everything that it imports, at the start or later. */
async function follow(entry, found) {
  if (found.has(entry)) return;
  found.add(entry);
  const text = (await read(entry)).replace(/\/\*[\s\S]*?\*\//g, '');
  for (const [, to = ''] of text.matchAll(/(?:from|import)\s*\(?\s*'([^']+)'/g))
    await follow(to.startsWith('/') ? to : posix.join(dirname(entry), to), found);
}

test('[SHELL1] the service worker keeps every module that the page ever imports, and no other', async () => {
  const found = new Set(/** @type {string[]} */ ([]));
  await follow('/js/main.js', found);
  const worker = await read('/sw.js');
  const list = /const SHELL = \[([^\]]*)\]/.exec(worker)?.[1] ?? '';
  const kept = [...list.matchAll(/'([^']+)'/g)].map(([, path = '']) => path);

  assert.deepEqual(
    kept.filter((path) => path.endsWith('.js')),
    [...found].sort(),
  );
});

test('[SHELL2] the other files that it keeps are those that index.html and the manifest name', async () => {
  const worker = await read('/sw.js');
  const kept = [...worker.matchAll(/^ {2}'([^']+)',$/gm)].map(([, path = '']) => path).filter((path) => !path.endsWith('.js'));
  const named = [...(await read('/index.html')).matchAll(/(?:href|src)="([^"]+)"/g)]
    .map(([, path = '']) => path)
    .filter((path) => !path.endsWith('.js'));

  assert.deepEqual(kept, ['/', ...new Set(named.map((path) => `/${path}`))].sort());
});
