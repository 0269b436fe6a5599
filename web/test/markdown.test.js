/** Markdown, read into plain data. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MAX_ELEMENTS, parse } from '../js/views/markdown/parse.js';

/** @param {any[]} parsed @returns {number} */
const elements = (parsed) => parsed.reduce((sum, one) => (typeof one === 'string' ? sum : sum + 1 + elements(one.children)), 0);
/** @param {any[]} parsed @returns {string} */
const text = (parsed) => parsed.map((one) => (typeof one === 'string' ? one : text(one.children))).join('');

test('[MARK1] the number of elements and the time for any text are bounded, no text throws, and all words stay', () => {
  const shapes = [
    '*a*',
    '*a*a',
    '- a\n',
    '1. a\n',
    '> a\n',
    'a\n',
    '`a` ',
    '# a\n',
    '~~a~~',
    '[a](https://b.c) ',
    'https://a.b ',
    '**',
    '\n',
    '```\n',
    '_a_ ',
    '*a _b **c** d_ e*',
  ];
  for (const shape of shapes) {
    const long = shape.repeat(Math.ceil(262_144 / shape.length));
    const began = performance.now();
    const parsed = parse(long);
    const count = elements(parsed);

    assert.ok(count <= MAX_ELEMENTS + 10, `${JSON.stringify(shape)} makes ${count} elements`);
    assert.ok(performance.now() - began < 2000, `${JSON.stringify(shape)} takes ${performance.now() - began} ms`);
    const letters = (/** @type {string} */ from) => from.replace(/[^abc]/g, '').length;
    if (!shape.includes('https')) assert.equal(letters(text(parsed)), letters(long), JSON.stringify(shape));
  }
});
