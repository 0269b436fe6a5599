/**
 * Print what a page loads at once for the encryption: bundled by esbuild, minified by terser, gzipped at level 9, in bytes.
 *
 * What is loaded only where the browser lacks ML-KEM is printed by itself.
 */
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';
import { minify } from 'terser';

/** The limit of the whole package, in bytes. */
export const LIMIT = 30_000;

/**
 * @param {Record<string, string>} elsewhere Other addresses of dynamic imports.
 * @returns {import('esbuild').Plugin} Dynamic imports stay outside.
 */
const later = (elsewhere) => ({
  name: 'later',
  setup: ({ onResolve }) =>
    onResolve({ filter: /./ }, ({ path, kind }) =>
      kind === 'dynamic-import' ? { path: elsewhere[path] ?? path, external: true } : undefined,
    ),
});

/**
 * @param {string} code What a page imports, of `src`.
 * @param {Record<string, string>} [elsewhere] Addresses in the page of what is imported later, by their names here.
 * @returns {Promise<string>} A minified module.
 */
export async function bundle(code, elsewhere = {}) {
  // biome-ignore format: a list is read across the line
  const { outputFiles } = await build({
    stdin: { contents: code, resolveDir: fileURLToPath(new URL('../src', import.meta.url)) },
    bundle: true, format: 'esm', target: 'es2022', write: false, logLevel: 'error', plugins: [later(elsewhere)],
  });
  const { code: small } = await minify(/** @type {any} */ (outputFiles[0]).text, {
    module: true,
    compress: { passes: 3, ecma: 2020 },
    // Single quotes, as everywhere in the page.
    format: { quote_style: 1 },
  });
  return /** @type {string} */ (small);
}

/** @param {string} code What a page imports. @returns {Promise<number>} Bytes, gzipped. */
export const size = async (code) => gzipSync(await bundle(code), { level: 9 }).length;

/** Everything, and what a page uses: a member on IndexedDB, invites, files, safety numbers. */
export const ALL = "export * from './index.js';";
export const PAGE =
  "export { KINDS, Member, SUITE_BITS, hpkeRatchet, indexedDbStore, openFile, readInvite, readMediaInfo, sealFile, spaced, writeMediaInfo } from './index.js';";

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  console.log(`${await size(PAGE)} bytes  what a page uses, at once (limit ${LIMIT})`);
  console.log(`${await size(ALL)} bytes  everything, at once`);
  console.log(
    `${await size("export { ml_kem768 } from '@noble/post-quantum/ml-kem.js';")} bytes  ML-KEM-768, later, where the browser lacks it`,
  );
}
