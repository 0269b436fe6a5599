/** The rules that every part of Orbital reads in the same way, from spec/vectors. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { BACKOFF, Chain, Cursor, delayMs, digest, firstPrev, prevOf, readFrame, wakeMs } from '../src/rules.js';
import { pong } from '../src/wire.js';

const vectors = (name) => JSON.parse(readFileSync(new URL(`../../../spec/vectors/${name}.json`, import.meta.url), 'utf8'));

test('[SDKVEC1] cursor: the rule of order', () => {
  const { cases } = vectors('cursor');
  for (const { name, last, offers } of cases) {
    const cursor = new Cursor(last);
    for (const offer of offers) {
      assert.equal(cursor.offer(offer.seq), offer.verdict, name);
      assert.equal(cursor.last, offer.last, name);
    }
  }
  assert.ok(cases.length > 5);
  for (const bad of [-1, 1.5, NaN, Infinity]) assert.throws(() => new Cursor(bad), RangeError);
});

test('[SDKVEC2] chain: digests, first hashes, tails and whole chains', () => {
  const { digests, first_prev, prev_of, cases } = vectors('chain');
  for (const { text, hash } of digests) assert.equal(digest(text), hash);
  for (const { group_id, prev } of first_prev) assert.equal(firstPrev(group_id), prev);
  for (const { frame, prev } of prev_of) assert.equal(prevOf(frame), prev);
  for (const { name, start, offers, end } of cases) {
    const chain = new Chain(start);
    for (const { frame, accepted } of offers) assert.equal(chain.offer(frame), accepted, name);
    assert.equal(chain.prev, end, name);
  }
  assert.ok(digests.length && first_prev.length && prev_of.length && cases.length);
});

test('[SDKVEC3] backoff: when to connect again', () => {
  const { rule, cases } = vectors('backoff');
  assert.deepEqual({ ...BACKOFF }, rule);
  for (const { name, kind, delay_ms, failures, random, retry_after_ms, now_ms, earlier_ms } of cases)
    assert.equal(
      kind === 'wake'
        ? wakeMs(BACKOFF, retry_after_ms, now_ms, earlier_ms)
        : delayMs(BACKOFF, failures, random, retry_after_ms, now_ms, earlier_ms),
      delay_ms,
      name,
    );
  assert.deepEqual([...new Set(cases.map(({ kind }) => kind))].sort(), ['delay', 'wake']);
});

test('[SDKVEC4] frames: how a client parses a frame', () => {
  const { now_ms, cases } = vectors('frames');
  for (const { name, text, expect } of cases) {
    const reading = readFrame(text);
    assert.equal(reading.makes, expect.makes, name);
    if (reading.makes === 'bad') assert.equal(typeof reading.reason, 'string');
    else {
      assert.equal(reading.frame.type, expect.type ?? 'ping', name);
      for (const member of ['group_id', 'seq', 'prev'])
        if (member in expect) assert.equal(reading.frame[member] ?? null, expect[member], name);
      if (expect.sends) assert.deepEqual(pong(now_ms), expect.sends);
    }
  }
  assert.ok(cases.length > 40);
});

test('[SDKVEC5] binary data is not a frame', () => {
  for (const other of [new ArrayBuffer(2), new Blob(['{}']), undefined, 5]) assert.equal(readFrame(other).makes, 'bad');
});
