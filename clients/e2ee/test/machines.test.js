/** The two machines as tables: complete, closed, and drawn in the documents. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import fc from 'fast-check';
import { drawn } from '../scripts/tables.js';
import { RECEIVER_ACTS, RECEIVER_INPUTS, RECEIVER_STATES, SENDER_ACTS, SENDER_INPUTS, SENDER_STATES } from '../src/machine-words.js';
import { MAX_MESSAGES, SENDER, missingDevices, nextInput, senderRow } from '../src/sender.js';
import { RECEIVER, REQUEST_MS, onContent, onHistory, onKeys, onRequest, receiverRow, requestDue } from '../src/receiver.js';

const DAY_MS = 86_400_000;
const ada = { user: 'ada', device: 1, identity: '05aa', suites: 2 };
const ben = { user: 'ben', device: 1, identity: '05bb', suites: 2 };
const view = (devices, epoch = 5) => ({ epoch, devices, rotationDays: 7 });
const facts = (more) => ({ state: 'ready', epoch: 5, count: 0, madeAt: 0, given: [ada, ben], drafts: true, ...more });

test('[SND1] Each pair of state and input has at most one row, and rows use only states, inputs and acts that are described.', () => {
  for (const [rows, states, inputs, acts] of [
    [SENDER, SENDER_STATES, SENDER_INPUTS, SENDER_ACTS],
    [RECEIVER, RECEIVER_STATES, RECEIVER_INPUTS, RECEIVER_ACTS],
  ]) {
    assert.equal(new Set(rows.map(({ state, on }) => `${state} ${on}`)).size, rows.length);
    for (const row of rows) assert.ok(states[row.state] && states[row.to] && inputs[row.on] && acts[row.does], JSON.stringify(row));
    for (const [names, key] of [
      [states, 'state'],
      [inputs, 'on'],
      [acts, 'does'],
    ])
      for (const name of Object.keys(names))
        assert.ok(
          rows.some((row) => row[key] === name),
          `${key} ${name} is used`,
        );
  }
});

test('[SND2] For any facts and view the next input has a row, and without new facts the machine becomes idle.', () => {
  const device = fc.constantFrom(ada, ben, { ...ben, identity: '05cc' });
  // biome-ignore format: a list is read across the line
  const someFacts = fc.record({
    state: fc.constantFrom('none', 'made', 'giving', 'ready'), epoch: fc.nat(9), count: fc.nat(1200), madeAt: fc.nat(9 * DAY_MS),
    given: fc.uniqueArray(device, { maxLength: 3 }), drafts: fc.boolean(),
  });
  const someView = fc.record({
    epoch: fc.nat(9),
    devices: fc.uniqueArray(device, { maxLength: 3 }),
    rotationDays: fc.integer({ min: 1, max: 30 }),
  });
  fc.assert(
    fc.property(someFacts, someView, fc.nat(20 * DAY_MS), (start, seen, now) => {
      let state = start.state === 'none' ? { ...start, given: [] } : start;
      for (let turns = 0; turns < 40; turns++) {
        const on = nextInput(state, seen, now);
        if (on === null) return;
        const row = senderRow(state.state, on);
        if (row.does === 'seal') return;
        if (row.does === 'make') state = { ...state, given: [], count: 0, madeAt: now, epoch: seen.epoch };
        else if (row.does === 'drop') state = { ...state, given: [] };
        else if (row.does === 'give' || row.does === 'repost') {
          const accepted = senderRow(row.to, 'accepted');
          state = { ...state, given: [...seen.devices] };
          state = { ...state, state: accepted.to, epoch: seen.epoch };
          continue;
        } else state = { ...state, epoch: seen.epoch };
        state = { ...state, state: row.to };
      }
      assert.fail('the machine does not come to rest');
    }),
    { numRuns: 2000 },
  );
});

test('[SND3] Keys are sent before content; a lost device or a due rotation is handled before both.', () => {
  assert.equal(nextInput(facts({ state: 'none', given: [] }), view([ada]), 0), 'draft');
  assert.equal(nextInput(facts({ state: 'none', given: [], drafts: false }), view([ada]), 0), null);
  assert.equal(nextInput(facts({ given: [ada] }), view([ada, ben]), 0), 'missing');
  assert.equal(nextInput(facts({ given: [ada] }), view([ada, ben], 6), 0), 'moved');
  assert.equal(nextInput(facts({}), view([ada, ben]), 0), 'draft');
  assert.equal(nextInput(facts({ drafts: false }), view([ada, ben, { ...ben, device: 2 }], 6), 0), null);
  assert.equal(nextInput(facts({ drafts: false }), view([ada], 6), 0), 'lost');
  assert.equal(nextInput(facts({}), view([ada, { ...ben, identity: '05cc' }]), 0), 'lost');
  assert.equal(nextInput(facts({ given: [ada, { ...ben, maybe: true }] }), view([ada, ben]), 0), 'missing');
  assert.equal(nextInput(facts({ given: [ada, { ...ben, maybe: true }] }), view([ada]), 0), 'lost');
  assert.equal(nextInput(facts({ state: 'made', given: [] }), view([]), 0), 'complete');
  assert.equal(nextInput(facts({ state: 'giving', given: [] }), view([ada]), 0), 'pending');
  assert.equal(nextInput(facts({ state: 'giving', given: [] }), view([ada], 6), 0), 'moved');
  assert.deepEqual(missingDevices(view([ada, { ...ben, identity: '05cc' }]), { given: [ada, ben] }), [{ ...ben, identity: '05cc' }]);
});

test('[SND4] A chain ends after 1,000 messages or after the days that the policy sets.', () => {
  assert.equal(MAX_MESSAGES, 1000);
  assert.equal(nextInput(facts({ count: 999 }), view([ada, ben]), 7 * DAY_MS - 1), 'draft');
  assert.equal(nextInput(facts({ count: 1000 }), view([ada, ben]), 0), 'rotate');
  assert.equal(nextInput(facts({}), view([ada, ben]), 7 * DAY_MS), 'rotate');
  assert.equal(nextInput(facts({ state: 'giving' }), view([ada, ben]), 7 * DAY_MS), 'rotate');
  assert.equal(nextInput(facts({}), { ...view([ada, ben]), rotationDays: 1 }, DAY_MS), 'rotate');
  assert.throws(() => senderRow('none', 'accepted'), { code: 'stopped' });
});

test('[RCV1] Content is checked against the pinned identity before anything is decrypted.', () => {
  const pin = { group: 'g', user: 'ada', device: 1, first: 10, last: 20 };
  const content = (more) => ({ author: 'ada', group: 'g', iteration: 20, ...more });
  const does = (row) => [row.does, row.warning];
  assert.deepEqual(does(onContent(undefined, content())), ['wait', undefined]);
  assert.deepEqual(does(onContent(pin, content())), ['read', undefined]);
  assert.deepEqual(does(onContent(pin, content({ iteration: 10 }))), ['read', undefined]);
  assert.deepEqual(does(onContent(pin, content({ iteration: 9 }))), ['wait', undefined]);
  assert.deepEqual(does(onContent(pin, content({ author: 'ben' }))), ['warn', 'wrong_sender']);
  assert.deepEqual(does(onContent(pin, content({ group: 'h', author: 'ben' }))), ['warn', 'misplaced']);
  assert.deepEqual(does(onContent(pin, content({ iteration: 2020 }))), ['read', undefined]);
  assert.deepEqual(does(onContent(pin, content({ iteration: 2021 }))), ['warn', 'too_far_ahead']);
});

test('[RCV2] A distribution belongs to the first device that sent it; only devices of the roster may request it; history is accepted from trusted devices.', () => {
  const pin = { group: 'g', user: 'ada', device: 1, first: 0, last: 0 };
  assert.equal(onKeys(undefined, { user: 'ada', device: 1, group: 'g' }).does, 'pin');
  assert.equal(onKeys(pin, { user: 'ada', device: 1, group: 'g' }).does, 'ignore');
  for (const thief of [
    { user: 'ben', device: 1, group: 'g' },
    { user: 'ada', device: 2, group: 'g' },
    { user: 'ada', device: 1, group: 'h' },
  ])
    assert.equal(onKeys(pin, thief).warning, 'stolen_distribution');
  const asker = { inRoster: true, given: false, since: 5, madeEpoch: 4 };
  assert.equal(onRequest({ ...asker, inRoster: false, given: true }).warning, 'foreign_request');
  assert.equal(onRequest(asker).does, 'ignore');
  assert.equal(onRequest({ ...asker, given: true }).does, 'answer');
  assert.equal(onRequest({ ...asker, since: 4 }).does, 'answer');
  for (const known of [false, true]) {
    assert.equal(onHistory(known, true).does, 'read_past');
    assert.equal(onHistory(known, false).warning, 'untrusted_history');
  }
  assert.throws(() => receiverRow('unknown', 'duplicate'), { code: 'stopped' });
});

test('[RCV3] A missing key is requested after 3 seconds, a minute, an hour and a day, and then no more.', () => {
  assert.deepEqual(REQUEST_MS, [3_000, 60_000, 3_600_000, 86_400_000]);
  assert.deepEqual(
    [0, 1, 2, 3, 4].map((asked) => requestDue(asked, 100)),
    [3_100, 60_100, 3_600_100, 86_400_100, null],
  );
});

test('[SND5] The documentation shows the machines and the fields as the code defines them.', () => {
  const page = readFileSync(new URL('../../../docs/reference/encryption.md', import.meta.url), 'utf8');
  for (const [name, table] of Object.entries(drawn()))
    assert.ok(page.includes(table), `${name} differs: run npm run tables in clients/e2ee`);
});
