/** The house of the SDK: no import circle, one table of states for both SDKs. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { STEPS } from '../src/subscription-state.js';

const src = new URL('../src/', import.meta.url);
const read = (file) => readFileSync(new URL(file, src), 'utf8');
const files = readdirSync(src).filter((name) => name.endsWith('.js'));
/** What a file imports, types included; what is loaded later is not needed to load it. */
const imports = (file) => [...read(file).matchAll(/^(?:import|export|\/\*\* @import)[^;]*? from '\.\/([^']+)'/gm)].map(([, path]) => path);

test('[HOUSEJS1] no file has a circular import, type imports included', () => {
  const done = new Set();
  const visit = (file, way) => {
    assert.ok(!way.includes(file), [...way, file].join(' > '));
    if (done.has(file)) return;
    for (const next of imports(file)) visit(next, [...way, file]);
    done.add(file);
  };
  for (const file of files) visit(file, []);

  assert.ok(done.size > 30);
  assert.ok(imports('groups.js').includes('reader.js') && imports('groups.js').includes('connection.js'));
});

test('[HOUSEJS2] no file of the SDK has more than 400 lines', () => {
  // What is generated is as long as what it describes.
  for (const file of files.filter((name) => name !== 'api-types.js')) assert.ok(read(file).split('\n').length <= 401, file);
});

test('[HOUSEJS3] the state table of a group has the transitions of the Python SDK, and those of a retryable error', () => {
  const python = readFileSync(new URL('../../../src/orbital_relay/client/protocol/subscription_state.py', import.meta.url), 'utf8');
  const theirs = [...python.matchAll(/\(\w+\.(\w+), Word\.(\w+)\): \w+\.(\w+)/g)].map((step) => step.slice(1).join(' ').toLowerCase());
  const ours = Object.entries(STEPS).flatMap(([from, steps]) => Object.entries(steps).map(([word, to]) => `${from} ${word} ${to}`));
  assert.ok(theirs.length > 5);
  // `break` is the Python SDK's own: with `verify` it refuses to continue.
  const missing = theirs.filter((step) => !/ break /.test(step) && !ours.includes(step));
  assert.deepEqual(missing, []);
  assert.deepEqual(ours.filter((step) => !theirs.includes(step)).sort(), ['asked defer off', 'on defer off', 'on refuse ended']);
});
