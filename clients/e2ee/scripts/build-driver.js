/**
 * Build better-sqlite3-multiple-ciphers for the tests, from the source in its npm package.
 *
 * npm runs no install scripts of packages that were not allowed, and the package's prebuilt files are not in the registry. A compiler and the
 * headers of this Node are needed; two minutes on a small machine. `npm run driver` does it once; `npm test` does it
 * where a complete run is asked for (ORBITAL_TESTS_COMPLETE=1).
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const require = createRequire(import.meta.url);
const BINARY = join('build', 'Release', 'better_sqlite3.node');

/** Node's own prefix holds its headers, where a distribution ships them. */
const prefix = dirname(dirname(process.execPath));

/** @returns {string} The package's folder. */
const folder = () => dirname(require.resolve('better-sqlite3-multiple-ciphers/package.json'));

/** @returns {string | null} Why the driver cannot be built or loaded here; null when it can. */
export function missingDriver() {
  let place;
  try {
    place = folder();
  } catch {
    return 'better-sqlite3-multiple-ciphers is not installed';
  }
  try {
    process.dlopen({ exports: {} }, join(place, BINARY));
    return null;
  } catch {
    // Missing, or built for another Node, whose modules have another binary interface.
    return `better-sqlite3-multiple-ciphers is not built for Node ${process.versions.node}: npm run driver in clients/e2ee (it needs a C++ compiler, make and Python)`;
  }
}

/** @returns {number} The exit status of the build. */
function build() {
  if (missingDriver() === null) return 0;
  const npm = process.env.npm_execpath;
  if (!npm) throw new Error('run it by npm, whose node-gyp it uses: npm run driver');
  const gyp = join(dirname(npm), '..', 'node_modules', 'node-gyp', 'bin', 'node-gyp.js');
  // node-gyp prefers npm's setting to its own option, and that may name the headers of another Node of this machine.
  const headers = existsSync(join(prefix, 'include', 'node', 'node_api.h')) ? { npm_config_nodedir: prefix } : {};
  const { status } = spawnSync(process.execPath, [gyp, 'rebuild', '--release'], {
    cwd: folder(),
    env: { ...process.env, ...headers },
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  return status ?? 1;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const wanted = process.argv[2] !== '--when-complete' || process.env.ORBITAL_TESTS_COMPLETE === '1';
  if (wanted) process.exitCode = build();
  console.log(
    missingDriver() ??
      `better-sqlite3-multiple-ciphers ${JSON.parse(readFileSync(join(folder(), 'package.json'), 'utf8')).version} is built`,
  );
}
