/**
 * Print what a page loads at once: the entry with everything that it imports, bundled by esbuild, minified by terser and gzipped at level 9,
 * in bytes.
 *
 * What the entry loads later (the outbox once the connection is open, the rest when it is first used) is printed by
 * itself, each with what it imports that the entry has not. So is the React module, without React. Node's own WebSocket is not part of what a page
 * loads.
 */
import { build } from 'esbuild';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { minify } from 'terser';

/**
 * The entry's limit, in bytes. It was 6,000. What a page must have before anything else is loaded has grown: a draft is kept in the store before
 * the outbox is there; an answer is checked to be the server's own, and read within a bound, before it decides anything; a token is renewed
 * before it ends; positions, addresses and numbers that others give are checked.
 */
export const LIMIT = 8500;

const src = fileURLToPath(new URL('../src/', import.meta.url));

/**
 * @param {string} entry A file in src/.
 * @param {ReadonlySet<string>} [loaded] Files in src/ that are loaded already.
 * @returns {Promise<{bytes: number, files: Set<string>, later: string[]}>} `later`: files that it imports dynamically.
 */
export async function size(entry, loaded = new Set()) {
  const files = new Set();
  const later = [];
  const { outputFiles } = await build({
    entryPoints: [src + entry],
    bundle: true,
    format: 'esm',
    target: 'es2022',
    write: false,
    logLevel: 'error',
    external: ['react'],
    plugins: [
      {
        name: 'parts',
        setup({ onResolve }) {
          onResolve({ filter: /^\.\// }, ({ path, kind }) => {
            const file = path.slice(2);
            if (kind === 'dynamic-import') later.push(file);
            else if (!loaded.has(file)) files.add(file);
            return kind === 'dynamic-import' || loaded.has(file) ? { path, external: true } : undefined;
          });
        },
      },
    ],
  });
  const { code } = await minify(outputFiles[0].text, { module: true, compress: { passes: 3, ecma: 2022 } });
  return { bytes: gzipSync(code, { level: 9 }).length, files: files.add(entry), later: [...new Set(later)].sort() };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const print = (bytes, what) => console.log(`${String(bytes).padStart(6)} bytes  ${what}`);
  const main = await size('index.js');
  print(main.bytes, `index.js, at once (limit ${LIMIT}): ${[...main.files].sort().join(' ')}`);
  for (const file of main.later) print((await size(file, main.files)).bytes, `${file}, later`);
  print((await size('react.js', main.files)).bytes, 'react.js, without React');
}
