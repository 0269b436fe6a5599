/**
 * Runs a Postman collection (v2.1) from top to bottom, as far as ours uses the format; prints a line for each request
 * and check, and ends with status 1 when one failed.
 *
 *   node run_collection.mjs collection.json base
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';

const [file, base] = process.argv.slice(2);
const collection = JSON.parse(readFileSync(file, 'utf8'));
const variables = new Map(collection.variable.map(({ key, value }) => [key, value]));
variables.set('base', base);
let failed = 0;

const fill = (text) =>
  text.replace(/\{\{(.*?)\}\}/g, (_, name) => {
    if (name === '$timestamp') return String(Math.floor(Date.now() / 1000));
    assert.ok(variables.has(name), `{{${name}}} is no variable of the collection`);
    return variables.get(name);
  });

/** The part of Postman's `pm.expect` (chai) that the collection uses. */
const expect = (value) => ({
  to: {
    eql: (other) => assert.deepEqual(value, other),
    equal: (other) => assert.equal(value, other),
    include: (other) => assert.ok(value.includes(other), `${JSON.stringify(value)} has no ${other}`),
    be: { above: (other) => assert.ok(value > other, `${value} is not above ${other}`) },
  },
});

async function run({ name, request, event = [] }) {
  const auth = request.auth ?? collection.auth;
  const headers = Object.fromEntries(request.header.map(({ key, value }) => [key, fill(value)]));
  if (auth.type === 'bearer') headers.Authorization = `Bearer ${fill(auth.bearer[0].value)}`;
  const response = await fetch(fill(request.url), { method: request.method, headers, body: request.body && fill(request.body.raw) });
  const text = await response.text();
  console.log(`${request.method} ${request.url} ${response.status}`);
  const pm = {
    expect,
    response: { json: () => JSON.parse(text), to: { have: { status: (code) => assert.equal(response.status, code, text) } } },
    collectionVariables: { get: (key) => variables.get(key), set: (key, value) => variables.set(key, value) },
    test: (claim, check) => {
      try {
        check();
        console.log(`  ok: ${name}: ${claim}`);
      } catch (error) {
        failed += 1;
        console.log(`  FAILED: ${name}: ${claim}: ${error.message}`);
      }
    },
  };
  for (const { listen, script } of event) if (listen === 'test') new Function('pm', script.exec.join('\n'))(pm);
}

async function walk(items) {
  for (const item of items) await (item.item ? walk(item.item) : run(item));
}

await walk(collection.item);
process.exitCode = failed ? 1 : 0;
