/** The real server and the tests' proxy, as processes. */
import { spawn } from 'node:child_process';
import { createHmac } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { recordSockets } from '../../../tests/support/record_frames.mjs';
import { until } from './fake.js';

const CHECKOUT = fileURLToPath(new URL('../../..', import.meta.url));
const PYTHON = process.env.ORBITAL_PYTHON ?? join(CHECKOUT, '.venv/bin/python');

/** Why the real server cannot be tried, for `skip`; false when it can. */
export const missing = existsSync(PYTHON) ? false : `no Python with Orbital at ${PYTHON}; set ORBITAL_PYTHON, or run make dev`;
if (missing && process.env.ORBITAL_TESTS_COMPLETE === '1') throw new Error(missing);

const SECRET = 'a secret for tests alone, long enough for HS256';

/** A test that is not about a limit shall not meet one. */
const WIDE = Object.fromEntries(
  ['CONNECT_LIMIT', 'CONNECT_CEILING', 'LOGIN_LIMIT', 'SIGNUP_LIMIT', 'JOIN_LIMIT', 'REQUEST_LIMIT', 'FRAME_RATE'].map((name) => [
    `ORBITAL_${name}`,
    '1000000',
  ]),
);

const inherited = Object.fromEntries(
  Object.entries(process.env).filter(([name]) => !/^(ORBITAL_.*|PORT|DATABASE_URL|REDIS_URL|JWT_SECRET)$/.test(name)),
);

async function freePort() {
  const server = createServer();
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** The ports of real servers, and of proxies before them. */
const realPorts = new Set();
recordSockets((url) => realPorts.has(Number(url.port)));

/** One `orbital serve`, which may be killed and started again on the same port and data. */
export class Orbital {
  lines = [];

  constructor(env = {}) {
    this.env = env;
  }

  async start() {
    this.folder ??= await mkdtemp(join(tmpdir(), 'orbital-js-'));
    this.port ??= await freePort();
    this.url = `http://127.0.0.1:${this.port}`;
    realPorts.add(this.port);
    this.process = spawn(PYTHON, ['-m', 'orbital_relay', 'serve'], {
      cwd: CHECKOUT,
      env: { ...inherited, ...WIDE, JWT_SECRET: SECRET, ...this.env, ORBITAL_DATA_DIR: this.folder, PORT: String(this.port) },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    for (const stream of [this.process.stdout, this.process.stderr])
      createInterface({ input: stream }).on('line', (line) => this.lines.push(line));
    const ended = new Promise((resolve) => this.process.on('exit', resolve));
    this.ended = ended;
    await until(
      async () => {
        if (this.process.exitCode !== null) throw new Error(`the server ended:\n${this.lines.join('\n')}`);
        return (await fetch(`${this.url}/health/ready`).catch(() => null))?.ok;
      },
      'ready',
      120_000,
    ).catch(async (error) => {
      await this.kill();
      throw error;
    });
    return this;
  }

  /** SIGKILL: no close frame, no flush. */
  async kill() {
    this.process.kill('SIGKILL');
    await this.ended;
  }

  async close() {
    await this.kill();
    await rm(this.folder, { recursive: true, force: true });
  }
}

/** The tests' proxy, driven by lines of JSON. */
export class FlakyProxy {
  #waiting = [];

  static async open(port, seed) {
    const proxy = new FlakyProxy();
    proxy.process = spawn(PYTHON, ['-m', 'tests.support.proxy', '--listen', '0', '--to', `127.0.0.1:${port}`, '--seed', String(seed)], {
      cwd: CHECKOUT,
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    const first = new Promise((resolve) => proxy.#waiting.push(resolve));
    createInterface({ input: proxy.process.stdout }).on('line', (line) => proxy.#waiting.shift()?.(JSON.parse(line)));
    proxy.port = (await first).listening;
    proxy.url = `http://127.0.0.1:${proxy.port}`;
    if (realPorts.has(port)) realPorts.add(proxy.port);
    return proxy;
  }

  /** @param {string} act @param {object} [more] */
  do(act, more = {}) {
    const answer = new Promise((resolve) => this.#waiting.push(resolve));
    this.process.stdin.write(`${JSON.stringify({ do: act, ...more })}\n`);
    return answer;
  }

  async close() {
    this.process.stdin.end();
    this.process.kill();
  }
}

/** A token as another service would sign it. */
export function jwt(claims, seconds) {
  const now = Math.floor(Date.now() / 1000);
  const encode = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const signed = `${encode({ alg: 'HS256', typ: 'JWT' })}.${encode({ ...claims, iat: now, exp: now + seconds })}`;
  return `${signed}.${createHmac('sha256', SECRET).update(signed).digest('base64url')}`;
}

/** Seeded numbers in [0, 1): mulberry32. */
export function seeded(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** An account with groups. */
export async function account(api, name, groups = 0) {
  await api.signup({ username: name, password: 'Correct-horse-1', public_key: { kty: 'x' } });
  const made = [];
  for (let i = 0; i < groups; i++) made.push(await api.createGroup({ encrypted_name: 'bmFtZQ==', encrypted_group_key: 'a2V5' }));
  return made;
}
