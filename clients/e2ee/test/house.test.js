/** The house of the encryption: licences, floors, sizes. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { FOLDER, pageFiles } from '../scripts/page.js';
import { ALL, LIMIT, PAGE, size } from '../scripts/size.js';

const TREE = fileURLToPath(new URL('../../../', import.meta.url));
const read = (path) => readFileSync(join(TREE, path), 'utf8');
const tracked = execFileSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], { cwd: TREE, encoding: 'utf8' })
  .split('\0')
  .filter((path) => path && existsSync(join(TREE, path)));
const manifests = tracked.filter((path) => path.endsWith('package.json'));
const licenceOf = (path) => JSON.parse(read(path)).license;
/** Licences that MIT software may depend on and ship with. */
const PERMISSIVE =
  /^(?:MIT|ISC|0BSD|BSD-2-Clause|BSD-3-Clause|Apache-2\.0|BlueOak-1\.0\.0|Unlicense|CC0-1\.0|\(?(?:MIT|BSD-2-Clause|BSD-3-Clause|Apache-2\.0|WTFPL|CC0-1\.0)(?: OR (?:MIT|BSD-2-Clause|BSD-3-Clause|Apache-2\.0|WTFPL|CC0-1\.0))+\)?)$/;

/** The folders whose package is under the AGPL. */
const agpl = manifests.filter((path) => /AGPL/.test(licenceOf(path) ?? '')).map((path) => `${dirname(path)}/`);

test('[SAFE8] Only AGPL packages import AGPL packages: no other file imports libsignal’s package or ours.', () => {
  assert.deepEqual(agpl.toSorted(), ['clients/signal/', 'examples/signal-family/']);
  const imports =
    /(?:\bfrom\s*|\bimport\s*\(?\s*|\brequire\s*\(\s*)['"](?:[^'"]*clients\/signal|[^'"]*signal-family|(?:\.\.\/)+signal\/|@orbital-relay\/signal|@signalapp\/)/;
  const source = tracked.filter((path) => /\.(?:[cm]?js|ts|tsx|html|py)$/.test(path) && !agpl.some((folder) => path.startsWith(folder)));
  assert.ok(source.length > 100);
  assert.deepEqual(
    source.filter((path) => path !== 'clients/e2ee/test/house.test.js' && imports.test(read(path))),
    [],
  );
  const named = manifests.filter(
    (path) => !agpl.includes(`${dirname(path)}/`) && /"(?:@signalapp\/|@orbital-relay\/signal|whatsapp-rust-bridge)/.test(read(path)),
  );
  assert.deepEqual(
    named.filter((path) => path !== 'clients/signal/package.json'),
    [],
  );
  assert.match("import { x } from '@signalapp/libsignal-client'", imports);
  assert.match("await import('../../signal/src/index.js')", imports);
  assert.match("import { Home } from '../examples/signal-family/src/home.js'", imports);
});

test('[SAFE9] Every dependency of the MIT packages has a permissive licence; the AGPL package states its licence in its manifest, LICENSE and files.', () => {
  for (const path of tracked.filter((path) => /^clients\/(?:e2ee|signal)\/package-lock\.json$/.test(path))) {
    const mayBeAgpl = agpl.includes(`${dirname(path)}/`);
    const packages = Object.entries(JSON.parse(read(path)).packages).filter(([name]) => name !== '');
    assert.ok(packages.length > 0, path);
    for (const [name, { license }] of packages)
      assert.ok(PERMISSIVE.test(license) || (mayBeAgpl && license === 'AGPL-3.0-only'), `${path}: ${name} is ${license}`);
  }
  assert.equal(licenceOf('clients/e2ee/package.json'), 'MIT');
  assert.equal(licenceOf('clients/signal/package.json'), 'AGPL-3.0-only');
  assert.match(read('clients/signal/LICENSE'), /GNU AFFERO GENERAL PUBLIC LICENSE\s+Version 3/);
  for (const path of tracked.filter((path) => /^(?:clients\/signal\/(?:src|test)|examples\/signal-family)\/.*\.js$/.test(path)))
    assert.match(read(path), /^(?:#!.*\n)?\/\/ SPDX-License-Identifier: AGPL-3\.0-only\n/, path);
});

test('[SAFE10] libsignal is pinned to an exact version, and the MIT package has two runtime dependencies.', () => {
  const signal = JSON.parse(read('clients/signal/package.json')).dependencies;
  for (const version of Object.values(signal)) assert.match(version, /^\d+\.\d+\.\d+$/);
  const { dependencies } = JSON.parse(read('clients/e2ee/package.json'));
  assert.deepEqual(Object.keys(dependencies), ['@noble/hashes', '@noble/post-quantum']);
});

test('[SAFE11] A page that imports the whole package loads at most 30 kB.', async () => {
  assert.equal(LIMIT, 30_000);
  const [page, all] = [await size(PAGE), await size(ALL)];
  assert.ok(page < all && all <= LIMIT, `${page} and ${all} bytes`);
});

test('[SAFE12] The decision modules import nothing asynchronous: the machines use no store, relay, clock or platform.', () => {
  for (const name of ['sender.js', 'receiver.js']) {
    const imports = [...read(`clients/e2ee/src/${name}`).matchAll(/^import .* from '(.*)';$/gm)].map(([, from]) => from);
    assert.deepEqual(
      imports.filter((from) => !['./errors.js', './crypto/chain.js'].includes(from)),
      [],
      name,
    );
    assert.doesNotMatch(
      read(`clients/e2ee/src/${name}`).replace(/\/\*\*[\s\S]*?\*\//g, ''),
      /\b(?:await|async|Date\.now|Math\.random|crypto\.|setTimeout|console)\b/,
      name,
    );
  }
});

test('[VENDOR1] The bundle that the web page uses is what these sources make, and weighs at most 30 kB gzipped; ML-KEM stands in a file of its own.', async () => {
  const files = await pageFiles();
  assert.deepEqual([...files.keys()], ['e2ee.js', 'ml-kem.js']);
  for (const [name, text] of files)
    assert.ok(text === readFileSync(join(FOLDER, name), 'utf8'), `web/vendor/${name} is not what the sources make: npm run page`);
  assert.ok(gzipSync(/** @type {string} */ (files.get('e2ee.js')), { level: 9 }).length <= LIMIT);
  assert.match(/** @type {string} */ (files.get('e2ee.js')), /import\('\.\/ml-kem\.js'\)/);
});
