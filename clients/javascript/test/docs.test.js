/** What the documents show is true: their programs run, against the real server. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { cp, mkdir, mkdtemp, readFile, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { transform } from 'esbuild';
import { OrbitalClient } from '../src/index.js';
import { Chromium, missing as noChromium } from './chromium.js';
import { until } from './fake.js';
import { Orbital, account, missing } from './orbital.js';

const CHECKOUT = fileURLToPath(new URL('../../..', import.meta.url));
const blocks = (text, language) => [...text.matchAll(new RegExp(`\`\`\`${language}\\n([\\s\\S]*?)\`\`\``, 'g'))].map(([, code]) => code);

describe('against the real server', { skip: missing }, () => {
  let orbital;
  let folder;
  let writer;
  let groupId;
  let threadId;
  let token;
  before(async () => {
    orbital = await new Orbital().start();
    folder = await mkdtemp(join(tmpdir(), 'orbital-docs-'));
    // As somebody has it who has installed the package.
    await mkdir(join(folder, 'node_modules/@orbital-relay'), { recursive: true });
    await symlink(join(CHECKOUT, 'clients/javascript'), join(folder, 'node_modules/@orbital-relay/client'));
    await cp(join(CHECKOUT, 'examples/javascript'), folder, { recursive: true });
    writer = new OrbitalClient(orbital.url);
    const [{ group_id }] = await account(writer.api, 'anna', 1);
    groupId = group_id;
    ({ token } = await writer.api.login({ username: 'anna', password: 'Correct-horse-1' }));
    ({ thread_id: threadId } = await writer.send(groupId, { type: 'thread', encrypted_title: 'dA==', encrypted_body: 'Yg==' }));
  });
  after(async () => {
    writer?.close();
    await orbital?.close();
    if (folder) await rm(folder, { recursive: true, force: true });
  });

  /** Run a program to its end; a failing one throws. */
  const run = async (name, code) => {
    const file = join(folder, name);
    await writeFile(file, code);
    const process_ = spawn(process.execPath, [file], { stdio: ['ignore', 'pipe', 'pipe'], timeout: 600_000 });
    let said = '';
    for (const stream of [process_.stdout, process_.stderr]) stream.on('data', (bytes) => (said += bytes));
    const code_ = await new Promise((resolve) => process_.on('close', resolve));
    assert.equal(code_, 0, `${name} ended with ${code_}:\n${said}\n${code}`);
    return said;
  };

  test('[SDKDOC1] README: in one minute', async () => {
    const [minute] = blocks(await readFile(join(CHECKOUT, 'clients/javascript/README.md'), 'utf8'), 'js');
    const said = await run('minute.mjs', minute.replace('http://localhost:3000', orbital.url));
    assert.match(said, /\d+ aGVsbG8=/);
  });

  test('[SDKDOC2] docs/reference/javascript.md: every block', async (t) => {
    const programs = blocks(await readFile(join(CHECKOUT, 'docs/reference/javascript.md'), 'utf8'), 'js');
    assert.ok(programs.length >= 8);
    const given = JSON.stringify({ url: orbital.url, token, groupId, threadId, ciphertext: 'Y2lwaGVydGV4dA==' });
    for (const [i, program] of programs.entries())
      await t.test(`block ${i + 1}`, async () => {
        await run(`reference-${i}.mjs`, `const { url, token, groupId, threadId, ciphertext } = ${given};\n${program}`);
      });
  });

  /** An example, as it runs: its lines, and a way to end it. */
  const example = (name) => {
    const process_ = spawn(process.execPath, [join(folder, name), orbital.url, groupId], {
      cwd: folder,
      env: { ...process.env, ORBITAL_TOKEN: token },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const lines = [];
    for (const stream of [process_.stdout, process_.stderr]) createInterface({ input: stream }).on('line', (line) => lines.push(line));
    const ended = new Promise((resolve) => process_.on('exit', resolve));
    return { lines, end: () => (process_.kill('SIGINT'), ended), kill: () => (process_.kill('SIGKILL'), ended) };
  };

  test('[SDKDOC3] examples/javascript/watch.mjs', async () => {
    const { lines, end } = example('watch.mjs');
    await until(() => lines.some((line) => line.startsWith('caught up')));
    await writer.send(groupId, { type: 'message', encrypted_envelope: 'bQ==' });
    await until(() => lines.at(-1).includes('new_message'));
    assert.equal(await end(), 0);
    assert.ok(lines.some((line) => line.startsWith('1 member_joined')));
  });

  test('[SDKDOC4] examples/javascript/echo.mjs', async () => {
    const { lines, end } = example('echo.mjs');
    await until(() => lines.includes('ready'));
    const ben = new OrbitalClient(orbital.url);
    await account(ben.api, 'ben');
    const { invite_code } = await writer.api.newInviteCode(groupId);
    await ben.api.joinGroup({ invite_code, encrypted_group_key: 'a2V5' });
    const { thread_id } = await ben.send(groupId, { type: 'thread', encrypted_title: 'dA==', encrypted_body: 'ZWNobw==' });
    await until(() => lines.includes(`answered ${thread_id}`));
    ben.close();
    assert.equal((await writer.api.replies(thread_id)).replies[0].encrypted_body, 'ZWNobw==');
    assert.equal(await end(), 0);
  });

  test('[BOT1] examples/javascript/echo.mjs answers once each thread that was created while it was down', async () => {
    const first = example('echo.mjs');
    await until(() => first.lines.includes('ready'));
    await first.kill();
    const cleo = new OrbitalClient(orbital.url);
    await account(cleo.api, 'cleo');
    const { invite_code } = await writer.api.newInviteCode(groupId);
    await cleo.api.joinGroup({ invite_code, encrypted_group_key: 'a2V5' });
    const { thread_id } = await cleo.send(groupId, { type: 'thread', encrypted_title: 'dA==', encrypted_body: 'ZG93bg==' });
    cleo.close();
    const second = example('echo.mjs');
    await until(() => second.lines.includes(`answered ${thread_id}`));
    await second.kill();
    const third = example('echo.mjs');
    await until(() => third.lines.includes('ready'));

    assert.equal(await third.end(), 0);
    assert.deepEqual(
      (await writer.api.replies(thread_id)).replies.map(({ encrypted_body }) => encrypted_body),
      ['ZG93bg=='],
    );
  });

  test('[SDKDOC5] examples/javascript/family.html, opened as a file', { skip: noChromium }, async (t) => {
    const browser = await Chromium.open();
    t.after(() => browser.close());
    const tab = await browser.tab();
    await tab.go(pathToFileURL(join(folder, 'family.html')).href);
    await tab.run((url) => {
      const form = document.getElementById('login');
      Object.assign(form.url, { value: url });
      Object.assign(form.username, { value: 'anna' });
      Object.assign(form.password, { value: 'Correct-horse-1' });
      form.requestSubmit();
    }, orbital.url);
    const text = () => tab.run(() => document.getElementById('threads').textContent);
    await until(() => tab.run(() => document.getElementById('state').textContent === 'open'), 'open');
    await tab.run(() => {
      document.getElementById('write').title.value = 'Dinner 🍝 at seven';
      document.getElementById('write').requestSubmit();
    });
    await until(async () => (await text()).includes('anna: Dinner 🍝 at seven'), 'the thread is shown');
    assert.deepEqual(tab.complaints, []);
  });
});

test('[SDKDOC6] every other program in the documentation is listed here', async () => {
  const pages = (await readdir(join(CHECKOUT, 'docs/how-to')))
    .filter((name) => /orbital-(in|with)|published/.test(name))
    .map((name) => `docs/how-to/${name}`);
  assert.ok(pages.length >= 4);
  for (const page of [...pages, 'clients/javascript/README.md'])
    for (const [language, loader] of [
      ['js', 'js'],
      ['jsx', 'jsx'],
    ])
      for (const code of blocks(await readFile(join(CHECKOUT, page), 'utf8'), language))
        await transform(/^import|await import/m.test(code) ? code : `(async () => {${code}})()`, { loader, format: 'esm' }).catch((error) =>
          assert.fail(`${page}: ${error.message}`),
        );
});
