/** The package as somebody installs it: `npm pack`, the tarball in another folder, TypeScript, Vite with React, and `require`. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const PACKAGE = fileURLToPath(new URL('..', import.meta.url));
const { version } = JSON.parse(await readFile(join(PACKAGE, 'package.json'), 'utf8'));
const execute = promisify(execFile);
/** Run a program to its end; what it said is in the error of one that fails. */
const run = async (file, args, cwd = folder) => {
  try {
    return (await execute(file, args, { cwd, env: { ...process.env, npm_config_update_notifier: 'false' } })).stdout;
  } catch (error) {
    throw new Error(`${file} ${args.join(' ')}: ${error.message}\n${error.stdout}\n${error.stderr}`);
  }
};
const npm = (...args) => run('npm', [...args, '--offline', '--no-audit', '--no-fund', '--loglevel=error']);

let folder;
before(async () => {
  // Inside of the package, so that the programs find the locked React, Vite and TypeScript above them; the SDK itself comes from the tarball.
  folder = await mkdtemp(join(PACKAGE, 'test/.installed-'));
  await writeFile(join(folder, 'package.json'), JSON.stringify({ name: 'somebody', private: true, type: 'module', version: '1.0.0' }));
  await run('npm', ['pack', '--loglevel=error', '--pack-destination', folder], PACKAGE);
  await npm('install', '--no-save', '--legacy-peer-deps', `./orbital-relay-client-${version}.tgz`);
});
after(() => folder && rm(folder, { recursive: true, force: true }));

test('[INS1] the tarball contains the code and the types only', async () => {
  const installed = join(folder, 'node_modules/@orbital-relay/client');
  assert.deepEqual((await readdir(installed)).sort(), ['README.md', 'package.json', 'src', 'types']);
  const { exports } = JSON.parse(await readFile(join(installed, 'package.json'), 'utf8'));
  for (const paths of Object.values(exports).filter((one) => typeof one === 'object'))
    for (const path of Object.values(paths)) assert.ok((await readFile(join(installed, path), 'utf8')).length, path);
});

for (const [module, moduleResolution] of [
  ['nodenext', 'nodenext'],
  ['esnext', 'bundler'],
])
  test(`[INS2] a strict TypeScript program finds the types, with moduleResolution ${moduleResolution}`, async () => {
    const options = {
      noEmit: true,
      strict: true,
      module,
      moduleResolution,
      target: 'es2022',
      lib: ['es2023', 'dom', 'dom.iterable', 'dom.asynciterable'],
      types: [],
      jsx: 'react-jsx',
      skipLibCheck: false,
    };
    await writeFile(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions: options, files: ['program.ts'] }));
    await writeFile(
      join(folder, 'program.ts'),
      `import { OrbitalClient } from '@orbital-relay/client';
       import { OrbitalApi } from '@orbital-relay/client/rest';
       import { Cursor } from '@orbital-relay/client/rules';
       import { useGroupEvents } from '@orbital-relay/client/react';
       const client = new OrbitalClient('http://localhost:3000', { token: () => localStorage.getItem('token') });
       for await (const item of client.subscribe('g', { since: 0 })) if (item.type === 'new_thread') item.data.encrypted_title.trim();
       // @ts-expect-error a token is no number: so the types are there, and are not any
       new OrbitalClient('http://localhost:3000', { token: 5 });
       console.log(OrbitalApi, new Cursor(1).last, useGroupEvents);
       export {};`,
    );
    await run(process.execPath, [join(PACKAGE, 'node_modules/typescript/bin/tsc'), '-p', folder]);
  });

describe('Vite and React', () => {
  test('[INS3] a page with the hooks builds, contains React once, and renders', async () => {
    await mkdir(join(folder, 'src'), { recursive: true });
    await writeFile(join(folder, 'index.html'), '<div id="root"></div><script type="module" src="/src/main.jsx"></script>');
    await writeFile(
      join(folder, 'src/main.jsx'),
      `import { createElement } from 'react';
       import { create } from 'react-test-renderer';
       import { OrbitalClient } from '@orbital-relay/client';
       import { useConnectionState } from '@orbital-relay/client/react';
       const client = new OrbitalClient('http://localhost:3000');
       const App = () => createElement('p', null, useConnectionState(client).status);
       create(createElement(App));
       document.body.textContent = 'rendered';`,
    );
    await writeFile(
      join(folder, 'build.mjs'),
      `import { build } from 'vite';
       const { output } = await build({ root: ${JSON.stringify(folder)}, logLevel: 'error', build: { write: false, minify: false } });
       const code = output.filter(({ type }) => type === 'chunk').map(({ code }) => code).join('\\n');
       console.log(JSON.stringify({ chunks: output.map(({ fileName }) => fileName), versions: code.match(/exports\\w*\\.useSyncExternalStore = /g)?.length ?? 0 }));`,
    );
    const { chunks, versions } = JSON.parse(await run(process.execPath, ['build.mjs']));
    assert.equal(versions, 1, 'React is in the bundle once');
    assert.ok(
      ['outbox', 'media', 'rest', 'catch-up'].every((name) => chunks.some((chunk) => chunk.includes(name))),
      String(chunks),
    );
  });
});

test('[INS4] require() works if Node can require modules (from 20.19 and 22.12 on)', {
  skip: !process.features.require_module && 'this Node cannot require modules',
}, async () => {
  await writeFile(
    join(folder, 'common.cjs'),
    `const { OrbitalClient, OrbitalError } = require('@orbital-relay/client');
     const { OrbitalApi } = require('@orbital-relay/client/rest');
     const { Cursor } = require('@orbital-relay/client/rules');
     const { fileStore } = require('@orbital-relay/client/file-store');
     const client = new OrbitalClient('http://127.0.0.1:1');
     client.api.groups().catch((error) => console.log(error instanceof OrbitalError, error.code, typeof OrbitalApi, new Cursor(4).last, typeof fileStore));`,
  );
  assert.equal((await run(process.execPath, ['--no-warnings', 'common.cjs'])).trim(), 'true NETWORK function 4 function');
});
