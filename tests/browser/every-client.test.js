/** The page, Node with libsignal, Node without, and Python in one group of version 2. */
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, test } from 'node:test';
import { launch, missing as noChromium, Person, until } from './chromium.js';
import { CHECKOUT, missing as noServer, PYTHON, Server } from './server.js';

const how = { skip: noServer || noChromium, timeout: 600_000 };

/** @type {Server} */
let server;
/** @type {import('playwright-core').Browser} */
let browser;
let folder = '';

before(async () => {
  if (how.skip) return;
  // It makes the link that an installation from a registry would make.
  execFileSync(process.execPath, [join(CHECKOUT, 'clients/signal/scripts/link.js')]);
  server = await new Server().start();
  browser = await launch();
  folder = await mkdtemp(join(tmpdir(), 'orbital-every-'));
});

after(async () => {
  await browser?.close();
  for (const one of Member.running) await one.kill();
  for (const one of Server.running) await one.close();
  if (folder) await rm(folder, { recursive: true });
});

/** A program that is a member, and does what lines on its standard input ask. */
class Member {
  /** @type {Set<Member>} */
  static running = new Set();
  /** @type {string[]} What it said on standard error. */
  words = [];
  /** @type {import('node:child_process').ChildProcess | undefined} */
  #process;
  #ended = Promise.resolve();
  /** @type {((line: string) => void)[]} */
  #waiting = [];

  /** @param {string} name @param {string[]} command */
  constructor(name, command) {
    this.name = name;
    this.command = command;
  }

  /** Start it, and wait until it is in the group. */
  async start() {
    const [program = '', ...args] = this.command;
    const started = spawn(program, args, { cwd: CHECKOUT, stdio: ['pipe', 'pipe', 'pipe'] });
    this.#process = started;
    Member.running.add(this);
    createInterface({ input: started.stdout }).on('line', (line) => this.#waiting.shift()?.(line));
    createInterface({ input: started.stderr }).on('line', (line) => this.words.push(line));
    const ready = new Promise((resolve) => this.#waiting.push(resolve));
    this.#ended = new Promise((resolve) => started.on('exit', () => resolve(undefined)));
    const ended = this.#ended.then(() => 'ended');
    assert.equal(await Promise.race([ready, ended]), 'ready', `${this.name}: ${this.words.join('\n')}`);
    return this;
  }

  /** @param {string} text */
  reply(text) {
    this.#process?.stdin?.write(`${JSON.stringify({ text })}\n`);
  }

  /** @returns {Promise<[string, string][]>} Status and text of each item, in the order of the log. */
  async items() {
    const answer = new Promise((resolve) => this.#waiting.push(resolve));
    this.#process?.stdin?.write('{}\n');
    const line = await Promise.race([answer, this.#ended.then(() => 'ended')]);
    assert.match(line, /^items /, `${this.name}: ${this.words.join('\n')}`);
    return JSON.parse(line.slice('items '.length));
  }

  async kill() {
    this.#process?.kill('SIGKILL');
    await this.#ended;
    Member.running.delete(this);
    this.#waiting = [];
  }
}

/** @param {string} path @param {object} body @param {string} [token] @returns {Promise<any>} */
async function post(path, body, token) {
  const headers = { 'content-type': 'application/json', ...(token && { authorization: `Bearer ${token}` }) };
  const answer = await fetch(server.url + path, { method: 'POST', headers, body: JSON.stringify(body) });
  assert.ok(answer.ok, `${path}: ${answer.status}`);
  return answer.json();
}

/**
 * Sign up, join by a link of the page, and enter.
 *
 * @param {string} name
 * @param {string} link
 * @param {(about: string, path: string, key: string) => string[]} command
 */
async function enter(name, link, command) {
  // After the 43 letters of the invite stand the page's two against typing errors.
  const [, code, invite] = /#join=(\w+)\.([\w-]{43})/.exec(link) ?? assert.fail(link);
  const { user_id: user, token } = await post('/api/signup', { username: name, password: 'Correct-Horse-7', public_key: {} });
  const { group_id: group } = await post('/api/groups/join', { invite_code: code, encrypted_group_key: 'a2V5' }, token);
  const path = join(folder, `${name}.db`);
  const key = randomBytes(32).toString('hex');
  const about = JSON.stringify({ url: server.url, token, user, group, invite, path, key });
  return new Member(name, command(about, path, key)).start();
}

test(
  '[EVERY1] the page in two tabs, Node with libsignal, Node without, and Python read each other in one order, amid kills; a removed one reads nothing that follows',
  how,
  async () => {
    const ada = await Person.sitDown(browser, 'ada_in_a_page');
    await ada.signUp(server.url);
    await ada.isConnected();
    await ada.makeGroup('Every client', { changing: true });
    const link = await ada.inviteLink();
    const signal = await enter('signal', link, (about, path, key) => [
      process.execPath,
      'clients/signal/test/signal_member.js',
      about,
      path,
      key,
    ]);
    const plain = await enter('plain', link, (about) => [process.execPath, 'tests/clients/plain_member.js', about]);
    const python = await enter('python', link, (about) => [PYTHON, 'tests/clients/line_member.py', about]);
    await ada.beginThread('Sunday', 'Who cooks?');
    await ada.page.locator('.opening h2').waitFor();
    const second = await ada.page.context().newPage();
    await second.goto(server.url);
    const tab = new Person('ada in a second tab', second);
    await tab.openThread('Sunday');

    /** @type {string[]} */
    const said = [];
    /** @param {Member[]} members @param {string[]} texts Wait until they and both tabs have read this, in this order. */
    const all = async (members, texts) => {
      for (const one of [ada, tab]) await one.sees(texts, 120_000);
      const wanted = JSON.stringify(['Sunday', ...texts].map((text) => ['read', text]));
      for (const one of members)
        await until(
          async () => JSON.stringify(await one.items()) === wanted,
          async () => `${one.name} has ${JSON.stringify(await one.items())}\nand not ${wanted}\n${one.words.join('\n')}`,
        );
    };
    const members = [signal, plain, python];
    await all(members, said);

    // One after another.
    for (const one of [ada, signal, tab, plain, python]) {
      said.push(`from ${one.name}`);
      await one.reply(`from ${one.name}`);
      await all(members, said);
    }

    // All at once: whatever the order, it is one order.
    for (let round = 0; round < 3; round++) for (const one of members) one.reply(`${one.name} ${round}`);
    for (let round = 0; round < 3; round++) for (const one of [ada, tab]) await one.reply(`${one.name} ${round}`);
    const burst = [ada, tab, ...members].flatMap(({ name }) => [0, 1, 2].map((round) => `${name} ${round}`));
    /** The replies in the order of the log. */
    const replies = async () => (await plain.items()).slice(1).map(([, text]) => text);
    await until(
      async () => (await replies()).length === said.length + burst.length,
      async () => `plain has ${JSON.stringify(await replies())}`,
    );
    const order = (await replies()).slice(said.length);
    assert.deepEqual([...order].sort(), [...burst].sort());
    said.push(...order);
    await all(members, said);

    // Killed: those with a store on the disk come back where they were, and so does the server.
    await python.kill();
    await signal.kill();
    said.push('while two are away');
    await ada.reply('while two are away');
    await all([plain], said);
    await server.kill();
    await ada.reply('without a server');
    said.push('without a server');
    await server.start();
    await Promise.all([python.start(), signal.start()]);
    await all(members, said);

    // Removed: the others continue with new keys.
    await ada.page.getByRole('button', { name: /^Members/ }).click();
    await ada.page.getByRole('button', { name: 'Remove plain' }).click();
    await ada.page.getByRole('dialog').getByRole('button', { name: 'Remove plain' }).last().click();
    await ada.page.getByRole('button', { name: 'Remove plain' }).waitFor({ state: 'detached' });
    await ada.closesDialogs();
    for (const one of [tab, python, signal]) {
      said.push(`without plain, from ${one.name}`);
      await one.reply(`without plain, from ${one.name}`);
      await all([python, signal], said);
    }
    const left = await plain.items();
    assert.ok(!left.some(([, text]) => text.startsWith('without plain')), JSON.stringify(left));
    assert.deepEqual(ada.complaints, []);
    await ada.close();
  },
);
