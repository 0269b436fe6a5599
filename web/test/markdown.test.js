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
    '***a***',
    '***a',
    '*a b',
  ];
  for (const shape of shapes) {
    const long = shape.repeat(Math.ceil(262_144 / shape.length));
    const began = process.cpuUsage();
    const parsed = parse(long);
    const count = elements(parsed);

    assert.ok(count <= MAX_ELEMENTS + 10, `${JSON.stringify(shape)} makes ${count} elements`);
    const { user } = process.cpuUsage(began);
    assert.ok(user < 2_000_000, `${JSON.stringify(shape)} takes ${user} µs of the processor`);
    const letters = (/** @type {string} */ from) => from.replace(/[^abc]/g, '').length;
    if (!shape.includes('https')) assert.equal(letters(text(parsed)), letters(long), JSON.stringify(shape));
  }
});

/** @param {any[]} parsed @returns {string} Tags around their text. */
const outline = (parsed) =>
  parsed.map((one) => (typeof one === 'string' ? one : `<${one.tag}>${outline(one.children)}</${one.tag}>`)).join('');

test('[MARK2] a star inside a word or before a space is text, three stars are bold italic, and a year starts no list', () => {
  for (const [written, shown] of /** @type {[string, string][]} */ ([
    ['2*3*4', '<p>2*3*4</p>'],
    ['2*3 *bold*', '<p>2*3 <em>bold</em></p>'],
    ['ä*b*c and *d*', '<p>ä*b*c and <em>d</em></p>'],
    ['(*yes*)', '<p>(<em>yes</em>)</p>'],
    ['a *b* c', '<p>a <em>b</em> c</p>'],
    ['***very***', '<p><strong><em>very</em></strong></p>'],
    ['***', '<hr></hr>'],
    ['2025. What a year', '<p>2025. What a year</p>'],
    ['Then:\n2025) came', '<p>Then:<br></br>2025) came</p>'],
    ['9. nine\n10. ten', '<ol><li>nine</li><li>ten</li></ol>'],
  ]))
    assert.equal(outline(parse(written)), shown, written);
});

test('[MARK3] lists nest by indentation, and an address keeps the brackets that it opened', () => {
  const item = (/** @type {any[]} */ ...children) => ({ tag: 'li', children });
  assert.deepEqual(parse('- a\n  - b\n    1. c\n  - d\n- e'), [
    {
      tag: 'ul',
      children: [
        item('a', { tag: 'ul', children: [item('b', { tag: 'ol', props: { start: 1 }, children: [item('c')] }), item('d')] }),
        item('e'),
      ],
    },
  ]);
  const links = (/** @type {string} */ text) => [...JSON.stringify(parse(text)).matchAll(/"href":"([^"]+)"/g)].map(([, href]) => href);
  for (const [text, href] of [
    ['https://example.org/a_(b)', 'https://example.org/a_(b)'],
    ['(see https://example.org/a_(b)).', 'https://example.org/a_(b)'],
    ['(https://example.org/a).', 'https://example.org/a'],
    ['[there](https://example.org/a_(b)) and', 'https://example.org/a_(b)'],
  ])
    assert.deepEqual(links(text ?? ''), [href], text);
});
