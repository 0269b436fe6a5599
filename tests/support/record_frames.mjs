/**
 * Records the frames that clients in JavaScript receive from a real server: when the process ends, `python -m tests.support.frames`
 * holds them against `/asyncapi.json`, and a frame that it does not allow is printed and makes the exit status 1.
 */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const CHECKOUT = fileURLToPath(new URL('../..', import.meta.url));
const PYTHON = process.env.ORBITAL_PYTHON ?? join(CHECKOUT, '.venv/bin/python');

/** @type {Map<string, string>} One text of each shape: the members' names, and the kinds of their values. */
const kept = new Map();
const MOST_SHAPES = 10_000;

/** @param {any} value @returns {unknown} */
function shapeOf(value) {
  if (Array.isArray(value)) return value.map(shapeOf);
  if (value === null || typeof value !== 'object') return value === null ? 'null' : Number.isInteger(value) ? 'integer' : typeof value;
  return Object.keys(value)
    .sort()
    .map((name) => [name, name === 'type' ? value[name] : shapeOf(value[name])]);
}

/** @param {unknown} data A message that a client received. */
export function record(data) {
  const text = typeof data === 'string' ? data : `binary data: ${String(data)}`;
  let shape = text;
  try {
    shape = JSON.stringify(shapeOf(JSON.parse(text)));
  } catch {} // no JSON: kept as it is, for the check to refuse it
  if (!kept.has(shape) && kept.size < MOST_SHAPES) kept.set(shape, text);
}

/**
 * Record what every WebSocket of this process receives from now on.
 *
 * @param {(url: URL) => boolean} [isReal] Whether an address is a real server's: the frames of others are bad on purpose.
 */
export function recordSockets(isReal = () => true) {
  const Platform = globalThis.WebSocket;
  globalThis.WebSocket = class WebSocket extends Platform {
    /** @param {string | URL} url @param {string | string[]} [protocols] */
    constructor(url, protocols = []) {
      super(url, protocols);
      if (isReal(new URL(url))) this.addEventListener('message', (event) => record(event.data));
    }
  };
}

process.on('exit', () => {
  if (kept.size === 0) return;
  const input = [...kept.values()].map((text) => `${JSON.stringify(text)}\n`).join('');
  const checked = spawnSync(PYTHON, ['-m', 'tests.support.frames'], { cwd: CHECKOUT, input, encoding: 'utf8' });
  if (checked.status === 0) return;
  process.stderr.write(`Frames that /asyncapi.json does not allow:\n${checked.stdout}${checked.stderr}`);
  process.exitCode = 1;
});
