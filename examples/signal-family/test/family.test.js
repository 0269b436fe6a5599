// SPDX-License-Identifier: AGPL-3.0-only
/** The script of three members and the terminal client, as processes, against a real server. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Orbital, missing } from '../../../clients/javascript/test/orbital.js';

const FOLDER = fileURLToPath(new URL('..', import.meta.url));

/** A program of the example; `said` waits for a line. */
class Program {
  out = '';
  err = '';
  #wake = () => {};

  constructor(script, words, env = {}) {
    this.process = spawn(process.execPath, [join(FOLDER, script), ...words], { env: { ...process.env, ...env } });
    for (const name of ['stdout', 'stderr'])
      this.process[name].setEncoding('utf8').on('data', (text) => {
        this[name === 'stdout' ? 'out' : 'err'] += text;
        this.#wake();
      });
    this.ended = new Promise((resolve) => this.process.on('close', resolve)).then((status) => {
      this.status = status;
      this.#wake();
      return status;
    });
  }

  /** @param {RegExp} pattern */
  async said(pattern) {
    for (;;) {
      const found = pattern.exec(this.out);
      if (found) return found;
      assert.equal(this.status, undefined, `it ended without ${pattern}: ${this.out}${this.err}`);
      await new Promise((resolve) => (this.#wake = resolve));
    }
  }

  type(line) {
    this.process.stdin.write(`${line}\n`);
  }
}

let orbital;
let folder;
before(async () => {
  if (missing) return;
  orbital = await new Orbital().start();
  folder = await mkdtemp(join(tmpdir(), 'signal-family-test-'));
});
after(async () => {
  await orbital?.close();
  if (folder) await rm(folder, { recursive: true });
});

/** Run a command of the terminal client to its end. */
async function family(home, ...words) {
  const program = new Program('family.js', [...words, '--home', join(folder, home)], { FAMILY_PASSWORD: 'Correct-horse-1' });
  await program.ended;
  return program;
}

async function done(home, ...words) {
  const { status, out, err } = await family(home, ...words);
  assert.equal(status, 0, `${words.join(' ')}: ${out}${err}`);
  return out;
}

test('[SIGFAM1] The script of three members ends with status 0, and each member has read everything in order.', {
  skip: missing,
}, async () => {
  const script = new Program('three-members.js', [orbital.url]);
  assert.equal(await script.ended, 0, script.out + script.err);
  const said = ['ada: Good evening!', 'ben opened thread 1 "Sunday": Who cooks?', 'cleo, in thread 1: I do, for everybody.'];
  const lines = [...said, 'cleo sent cake.png to thread 1', 'ben: Welcome, tablet.', 'ada: Hello from the tablet.'];
  const read = script.out.split('What everybody has read:\n')[1].split('\n');
  assert.deepEqual(
    read.slice(0, 6).map((line) => line.trim()),
    lines,
  );
  assert.match(script.out, /Ada, Ben and Cleo read the same, in the same order\n/);
  assert.match(script.out, /Everybody has read everything in order\.\n$/);
  assert.equal(script.err, '');
});

test('[SIGFAM2] The terminal client signs up, makes a group, invites, joins, talks, and links a second device by its code and number.', {
  skip: missing,
}, async () => {
  await done('ada', 'signup', 'ada', '--server', orbital.url);
  await done('ada', 'group', 'home');
  const invitation = (await done('ada', 'invite', 'home')).trim();
  await done('ben', 'signup', 'ben', '--server', orbital.url);
  await done('ben', 'join', invitation, 'family');

  const talk = new Program('family.js', ['chat', 'home', '--home', join(folder, 'ada')]);
  talk.type('the canary sings');
  talk.type('/thread Sunday: Who cooks?');
  talk.type('/reply 2 nobody');
  talk.type('/reply 1 I do.');
  talk.type('/nonsense');
  talk.type('/people');
  await talk.said(/ben, .*\n/);
  talk.type('/quit');
  assert.equal(await talk.ended, 0, talk.out + talk.err);
  assert.match(talk.out, /There is no thread 2: this group has 1\./);
  assert.match(talk.out, /There is no command \/nonsense/);
  const said = 'ada: the canary sings\nada opened thread 1 "Sunday": Who cooks?\nada, in thread 1: I do.\n';
  assert.equal(await done('ben', 'read', 'family'), said);

  await done('tablet', 'login', 'ada', '--server', orbital.url);
  const tablet = new Program('family.js', ['link', '--home', join(folder, 'tablet')]);
  const [, code] = await tablet.said(/family\.js admit (\S+)/);
  const phone = new Program('family.js', ['admit', code, '--home', join(folder, 'ada')]);
  phone.type('yes');
  const [, number] = await phone.said(/must show this number: (\d{6})/);
  const [, shown] = await tablet.said(/show the number (\d{6})/);
  assert.equal(shown, number);
  tablet.type('yes');
  assert.deepEqual([await phone.ended, await tablet.ended], [0, 0], phone.err + tablet.err);
  assert.match(tablet.out, /one group now: group1\./);

  for (const home of ['ada', 'ben', 'tablet']) {
    for (const file of await readdir(join(folder, home))) {
      const path = join(folder, home, file);
      assert.equal((await readFile(path)).includes('the canary sings'), false, path);
      if (file !== 'store.db') continue;
      assert.equal((await stat(join(folder, home, 'store.key'))).mode & 0o077, 0);
    }
  }
});

test('[SIGFAM3] Help has examples, and each mistake is a sentence with status 1 and no stack.', { skip: missing }, async () => {
  assert.match(await done('none', '--help'), /Examples\n {2}node family\.js signup ada\n/);
  for (const [words, expected] of [
    [['dance'], /^There is no command dance\./],
    [['invite'], /^"invite" takes GROUP: node family\.js invite GROUP\n$/],
    [['groups'], /^There is no account in .*signup NAME/],
    [['signup', 'dora', '--server', 'http://127.0.0.1:1'], /^The server does not answer\./],
  ]) {
    const { status, out, err } = await family('none', ...words);
    assert.deepEqual([status, out], [1, ''], err);
    assert.match(err, expected);
    assert.doesNotMatch(err, /\n {4}at /);
  }
  const away = new Program('three-members.js', ['http://127.0.0.1:1']);
  assert.equal(await away.ended, 1);
  assert.match(away.err, /^The server does not answer\./);
  const usage = new Program('three-members.js', ['--help']);
  assert.equal(await usage.ended, 0);
});
