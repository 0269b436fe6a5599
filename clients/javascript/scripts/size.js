/**
 * Print what a page loads: the entry with everything that it imports, minified by esbuild and gzipped at level 9, in bytes.
 *
 * What is loaded only when it is first used (media) is printed by itself, and so is the React module without React. Node's own WebSocket is not
 * part of what a page loads.
 */
import { build } from 'esbuild';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';

/** The entry's limit, in bytes. */
export const LIMIT = 6000;

/**
 * @param {string} entry A file in src/.
 * @returns {Promise<Map<string, number>>} Bytes by what is loaded: the entry, then each part that it loads later.
 */
export async function sizes(entry) {
  const { outputFiles, metafile } = await build({
    entryPoints: [fileURLToPath(new URL(`../src/${entry}`, import.meta.url))],
    outdir: '/out',
    bundle: true,
    splitting: true,
    minify: true,
    format: 'esm',
    target: 'es2022',
    external: ['react'],
    metafile: true,
    write: false,
    logLevel: 'error',
  });
  const bytes = (name) => gzipSync(outputFiles.find(({ path }) => path.endsWith(name)).contents, { level: 9 }).length;
  const made = Object.entries(metafile.outputs).map(([path, output]) => ({ name: path.split('/').pop(), ...output }));
  const main = made.find(({ entryPoint }) => entryPoint?.endsWith(`src/${entry}`));
  // A part that the entry imports statically is loaded with it, whatever esbuild cut it into.
  const with_entry = new Set([main.name]);
  for (const name of with_entry)
    for (const { path, kind } of made.find((one) => one.name === name).imports) if (kind === 'import-statement' && path !== 'react') with_entry.add(path.split('/').pop());
  const result = new Map([[entry, [...with_entry].reduce((sum, name) => sum + bytes(name), 0)]]);
  for (const { name, entryPoint } of made) if (!with_entry.has(name) && entryPoint) result.set(`${entryPoint.split('/').pop()} (when first used)`, bytes(name));
  return result;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const entry of ['index.js', 'react.js'])
    for (const [name, bytes] of await sizes(entry)) console.log(`${String(bytes).padStart(6)} bytes  ${name}${name === 'index.js' ? ` (limit ${LIMIT})` : ''}`);
}
