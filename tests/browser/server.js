/** The real server, as a process that may be killed and started again on the same port and data. */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

export const CHECKOUT = fileURLToPath(new URL('../..', import.meta.url));
export const PYTHON = process.env.ORBITAL_PYTHON ?? join(CHECKOUT, '.venv/bin/python');
/** Long, for a machine that is busy with other tests. */
const READY_MS = 60_000;

/** Why no server can be started, for `skip`; false when one can. */
export const missing = existsSync(PYTHON) ? false : `no Python with Orbital at ${PYTHON}; set ORBITAL_PYTHON, or run make dev`;
if (missing && process.env.ORBITAL_TESTS_COMPLETE === '1') throw new Error(missing);

/** High limits, for tests that are not about limits. */
const WIDE = Object.fromEntries(
  ['CONNECT_LIMIT', 'CONNECT_CEILING', 'LOGIN_LIMIT', 'SIGNUP_LIMIT', 'JOIN_LIMIT', 'REQUEST_LIMIT', 'FRAME_RATE'].map((name) => [
    `ORBITAL_${name}`,
    '1000000',
  ]),
);
WIDE.ORBITAL_SIGNUPS = 'open';

const inherited = Object.fromEntries(
  Object.entries(process.env).filter(([name]) => !/^(ORBITAL_.*|PORT|DATABASE_URL|REDIS_URL|JWT_SECRET)$/.test(name)),
);

/** @returns {Promise<number>} */
async function freePort() {
  const server = createServer();
  await new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(0)));
  const { port } = /** @type {import('node:net').AddressInfo} */ (server.address());
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** One `orbital serve`. */
export class Server {
  /** @type {Set<Server>} Those that run: one that a failed test left would keep the tests from ending. */
  static running = new Set();
  /** @type {string[]} What it printed. */
  lines = [];
  folder = '';
  port = 0;
  /** @type {Record<string, string>} Settings of its own, as environment variables. */
  settings = {};
  /** @type {import('node:child_process').ChildProcess | undefined} */
  #process;
  /** @type {Promise<unknown>} */
  #ended = Promise.resolve();

  /** A browser treats plain http on `localhost` as secure. */
  get url() {
    return `http://localhost:${this.port}`;
  }

  async start() {
    this.folder ||= await mkdtemp(join(tmpdir(), 'orbital-browser-'));
    this.port ||= await freePort();
    const started = spawn(PYTHON, ['-m', 'orbital_relay', 'serve', '--log-level', 'debug'], {
      cwd: CHECKOUT,
      env: { ...inherited, ...WIDE, ...this.settings, ORBITAL_DATA_DIR: this.folder, PORT: String(this.port) },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#process = started;
    Server.running.add(this);
    for (const stream of [started.stdout, started.stderr]) createInterface({ input: stream }).on('line', (line) => this.lines.push(line));
    this.#ended = new Promise((resolve) => started.on('exit', resolve));
    const deadline = Date.now() + READY_MS;
    while (!(await fetch(`http://127.0.0.1:${this.port}/health/ready`).catch(() => null))?.ok) {
      if (started.exitCode !== null || Date.now() > deadline) throw new Error(`the server did not start:\n${this.lines.join('\n')}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    return this;
  }

  /** SIGKILL: no Close frame, no flush. */
  async kill() {
    this.#process?.kill('SIGKILL');
    await this.#ended;
  }

  /** Stop it gracefully, so that its database is complete on the disk. */
  async stop() {
    this.#process?.kill('SIGTERM');
    await this.#ended;
  }

  /** @returns {Promise<[string, Buffer][]>} Every file that the server keeps, by its name. */
  async files() {
    const entries = await readdir(this.folder, { recursive: true, withFileTypes: true });
    const names = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
    return Promise.all(names.map(async (name) => /** @type {[string, Buffer]} */ ([name, await readFile(name)])));
  }

  async close() {
    await this.kill();
    Server.running.delete(this);
    await rm(this.folder, { recursive: true, force: true });
  }
}
