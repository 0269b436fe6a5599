/**
 * Measure Node, Chromium and Python five times in turns, and print the medians as the table of docs/reference/encryption.md.
 *
 * `npm run figures` prints it; `npm run figures -- --write` writes it into the page, between its marks.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { missingDriver } from './build-driver.js';
import { missingFigures } from './figures-page.js';

/** @typedef {import('./figures.js').Figures} Figures */
/** @typedef {(figures: Figures) => number | undefined} Of */

const ROUNDS = 5;
const PAGE = new URL('../../../docs/reference/encryption.md', import.meta.url);
const ROOT = fileURLToPath(new URL('../../..', import.meta.url));

/** @param {number} value Rounded to two digits. */
const rounded = (value) => Number(value.toPrecision(2)).toLocaleString('en', { maximumFractionDigits: 3 });
const milliseconds = (/** @type {number} */ ms) => `${rounded(ms)} ms`;
const aSecond = (/** @type {number} */ ms) => `${rounded(1000 / ms)} a second`;
const bytes = (/** @type {number} */ size) => `${size} bytes`;

/** @type {[what: string, of: Of, unit: (value: number) => string][]} */
export const ROWS = [
  ['encrypt a short text', ({ steps }) => steps.encrypt, aSecond],
  ['decrypt it', ({ steps }) => steps.decrypt, aSecond],
  ['seal keys for one device (X-Wing)', ({ steps }) => steps.seal, milliseconds],
  ['seal keys for 49 devices, after a removal', ({ steps }) => 49 * steps.seal, milliseconds],
  ['draft, seal and post a short text, with a store in memory', ({ memory }) => memory.send, milliseconds],
  ['process it, with a store in memory', ({ memory }) => memory.receive, milliseconds],
  ['a new chain for 49 devices and the first text, with a store in memory', ({ memory }) => memory.renew, milliseconds],
  ['process a removal, the new keys and the first text, with a store in memory', ({ memory }) => memory.removal, milliseconds],
  ['draft, seal and post a short text, with an encrypted store', ({ stored }) => stored?.send, milliseconds],
  ['process it, with an encrypted store', ({ stored }) => stored?.receive, milliseconds],
  ['a new chain for 49 devices and the first text, with an encrypted store', ({ stored }) => stored?.renew, milliseconds],
  ['process a removal, the new keys and the first text, with an encrypted store', ({ stored }) => stored?.removal, milliseconds],
  ['a safety number', ({ steps }) => steps.compare, milliseconds],
  ['the envelope of a short text', ({ steps }) => steps.envelope, bytes],
  ['a distribution message', ({ steps }) => steps.distribution, bytes],
];

/** @param {number[]} values @returns {number} */
const median = (values) => /** @type {number} */ ([...values].sort((a, b) => a - b)[Math.floor(values.length / 2)]);

/** @param {Figures[]} runs Of one program. @param {Of} of @returns {number | undefined} The median; undefined when one run lacks it. */
function middle(runs, of) {
  const values = runs.map(of);
  return values.every((value) => value !== undefined) ? median(values) : undefined;
}

/**
 * @param {{node: Figures[], page: Figures[], python: Figures[]}} runs
 * @returns {string[][]} The cells of each row: what, Node, Chromium, Python, and what the last two cost for each of Node's.
 */
export function rowsOf({ node, page, python }) {
  return ROWS.map(([what, of, unit]) => {
    const values = [node, page, python].map((figures) => middle(figures, of));
    const ratios = values.slice(1).map((value) => (unit === bytes || !value || !values[0] ? '' : rounded(value / values[0])));
    return [what, ...values.map((value) => (value === undefined ? '' : unit(value))), ...ratios];
  });
}

/** @param {Parameters<typeof rowsOf>[0]} runs @returns {string} The text between the marks of the page. */
export function drawn(runs) {
  const heads = ['what', 'Node', 'Chromium', 'Python', 'Chromium to Node', 'Python to Node'];
  const table = [heads, heads.map(() => '---'), ...rowsOf(runs)].map((cells) => `| ${cells.join(' | ')} |`).join('\n');
  const sorts = [runs.node, runs.page, runs.python];
  /** @param {Of} of */
  const list = (of) =>
    ['Node', 'Chromium', 'Python'].map((name, at) => `${name} ${milliseconds(middle(sorts[at] ?? [], of) ?? Number.NaN)}`).join(', ');
  return `${table}

A removal from a group of 51 has two costs for each of the 50 members that are left.
With its next text a device makes a new chain: ${list(({ stored }) => stored?.renew)}.
For each new chain of another device it processes its keys and text: ${list(({ stored }) => stored?.removal)}, the record of the removal included.`;
}

/** @param {string} program @param {string[]} args @returns {Figures} */
const run = (program, ...args) => JSON.parse(execFileSync(program, args, { cwd: ROOT, encoding: 'utf8', maxBuffer: 2 ** 24 }));

/** @returns {Parameters<typeof rowsOf>[0]} The programs take turns, so that each one has the same share of what else the machine does. */
function measured() {
  const script = (/** @type {string} */ name) => fileURLToPath(new URL(name, import.meta.url));
  const python = ['.venv/bin/python', 'python3'].find((name) => name === 'python3' || existsSync(`${ROOT}/${name}`)) ?? 'python3';
  /** @type {Parameters<typeof rowsOf>[0]} */
  const runs = { node: [], page: [], python: [] };
  for (let round = 0; round < ROUNDS; round++) {
    runs.node.push(run(process.execPath, script('figures-node.js')));
    runs.page.push(run(process.execPath, script('figures-page.js')));
    runs.python.push(run(python, 'bench/e2ee.py'));
    console.error(`measured ${round + 1} of ${ROUNDS}`);
  }
  return runs;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const lacking = missingDriver() || missingFigures;
  if (lacking) throw new Error(lacking);
  const text = drawn(measured());
  console.log(text);
  if (process.argv[2] === '--write') {
    const page = readFileSync(PAGE, 'utf8');
    const marks = /(<!-- figures: measured by scripts\/figures-table.js -->\n).*?(<!-- end of figures -->)/s;
    if (!marks.test(page)) throw new Error('docs/reference/encryption.md has no marks for the figures');
    writeFileSync(
      PAGE,
      page.replace(marks, (_, begin, end) => `${begin}\n${text}\n\n${end}`),
    );
  }
}
