/** The programs of the figures measure what the table of them says; no test asserts a time. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { missingDriver } from '../scripts/build-driver.js';
import { nodeFigures } from '../scripts/figures-node.js';
import { missingFigures, pageFigures } from '../scripts/figures-page.js';
import { ROWS, drawn, rowsOf } from '../scripts/figures-table.js';

/** The rows of a column of the table that hold no figure. */
const empty = (rows, column) => rows.filter((cells) => !/\d/.test(cells[column])).map(([what]) => what);
const positive = (figures) => ROWS.map(([, of]) => of(figures)).filter((value) => value !== undefined && !(value > 0));

test('[SAFE13] The figures show the sizes of the contract, and measured times.', async () => {
  const { steps, memory } = await nodeFigures(3, 4);
  assert.deepEqual([steps.envelope, steps.distribution], [258, 96]);
  for (const ms of [...Object.values(steps), ...Object.values(memory)]) assert.ok(ms > 0 && Number.isFinite(ms));
});

test('[FIGNODE1] The figures of a group are measured with encrypted files, for a text and for a removal.', {
  skip: missingDriver() ?? false,
}, async () => {
  const figures = await nodeFigures(3, 2);
  assert.deepEqual(empty(rowsOf({ node: [figures], page: [], python: [] }), 1), []);
  assert.deepEqual(positive(figures), []);
});

test('[FIGPAGE1] The figures of a page are measured in Chromium for every row of the table, with the memory store and with IndexedDB.', {
  skip: missingFigures,
}, async () => {
  const figures = await pageFigures(3, 2);
  assert.deepEqual(empty(rowsOf({ node: [], page: [figures], python: [] }), 2), []);
  assert.deepEqual(positive(figures), []);
  assert.deepEqual([figures.steps.envelope, figures.steps.distribution], [258, 96]);
});

test('[FIGPAGE2] The table shows the median of each row, and what Chromium and Python take for each millisecond of Node.', () => {
  const part = (value) => ({ send: value, receive: value, renew: value, removal: value });
  const all = (value) => ({
    steps: { encrypt: value, decrypt: value, seal: value, compare: value, envelope: 258, distribution: 96 },
    memory: part(value),
    stored: part(value),
  });
  const runs = { node: [1, 9, 2].map(all), page: [4, 8, 3].map(all), python: [all(0.5)] };
  const rows = rowsOf(runs);
  assert.deepEqual(rows[0], ['encrypt a short text', '500 a second', '250 a second', '2,000 a second', '2', '0.25']);
  assert.deepEqual(rows.at(-1), ['a distribution message', '96 bytes', '96 bytes', '96 bytes', '', '']);
  assert.match(drawn(runs), /a new chain: Node 2 ms, Chromium 4 ms, Python 0.5 ms\./);
});
