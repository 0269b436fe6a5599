/** Annotations: the formats of their bodies, and what they come to. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  ANNOTATION,
  ANNOTATION_BODIES,
  MAX_OPTIONS,
  MAX_REACTION_BYTES,
  annotationOf,
  readAnnotation,
  writeAnnotation,
} from '../src/annotation-kinds.js';
import { foldAnnotations } from '../src/annotation-fold.js';
import { textOf } from '../src/cipher-client.js';
import { concat, fromHex, toHex, utf8 } from '../src/bytes.js';
import { KINDS } from '../src/formats/content.js';
import { encode } from '../src/formats/protobuf.js';
import { ADA, BEN, CLEO, GROUP, bytes } from './people.js';

const THREAD = '11111111-2222-4333-8444-555555555555';
const REPLY = '22222222-2222-4333-8444-555555555555';
const POLL = bytes(16, 7);
const ID = toHex(POLL);

/** Items as a device keeps them, numbered. */
function log(...entries) {
  return entries.map(([author, type, data, body, status = 'read'], at) => ({
    ...{ group: GROUP, seq: at + 1, hash: '', type, status, author, device: 1, data, via: null },
    parts: body ? [{ kind: type === 'new_annotation' ? KINDS.annotation : KINDS.reply, body, at: 1000 + at }] : [],
  }));
}
const thread = [ADA, 'new_thread', { thread_id: THREAD }, utf8('Sunday')];
const reply = [BEN, 'new_reply', { thread_id: THREAD, reply_id: REPLY }, utf8('I do.')];
const note = (author, target_id, annotation, status) => [
  author,
  'new_annotation',
  { thread_id: THREAD, target_id },
  writeAnnotation(annotation),
  status,
];
const fold = (...entries) => foldAnnotations(log(thread, reply, ...entries));

const text = fc.string({ unit: 'grapheme', maxLength: 12 });
const id = fc.uint8Array({ minLength: 16, maxLength: 16 });
const removed = fc.boolean();
const annotations = fc.oneof(
  fc.record({ kind: fc.constant('reaction'), text: fc.string({ unit: 'grapheme-ascii', minLength: 1, maxLength: 64 }), removed }),
  fc.record({ kind: fc.constant('edit'), body: text, title: text }, { requiredKeys: ['kind', 'body'] }),
  fc.record({ kind: fc.constant('pin'), removed }),
  fc.record({ kind: fc.constant('seen'), seq: fc.maxSafeNat() }),
  fc.record({
    ...{ kind: fc.constant('poll'), id, question: text, options: fc.array(text, { minLength: 2, maxLength: 32 }) },
    multiple: fc.boolean(),
  }),
  fc.record({ kind: fc.constant('vote'), poll: id, choices: fc.array(fc.nat(MAX_OPTIONS - 1), { maxLength: 5 }) }),
);

test('[SEALNOTE1] Fuzzed: an annotation of any kind decodes to what was encoded.', () => {
  fc.assert(
    fc.property(annotations, (one) => {
      const read = readAnnotation(writeAnnotation(one));
      assert.deepEqual(JSON.stringify(read, Object.keys(read).sort()), JSON.stringify(one, Object.keys(one).sort()));
    }),
  );
  assert.equal(toHex(writeAnnotation({ kind: 'reaction', text: '❤️' })), '0a080a06e29da4efb88f');
  assert.equal(toHex(writeAnnotation({ kind: 'vote', poll: POLL, choices: [1, 0] })), `32160a10${ID}12020100`);
  assert.equal(toHex(writeAnnotation({ kind: 'pin' })), '1a00');
  assert.deepEqual(readAnnotation(writeAnnotation({ kind: 'edit', body: '\ufeffx' })), { kind: 'edit', body: '\ufeffx' });
});

test('[SEALNOTE2] A value out of its bounds is neither written nor read; an unknown kind is unsupported, two kinds at once are malformed.', () => {
  const raw = (kind, body) => encode(ANNOTATION, { [kind]: body });
  const options = (count) => Array.from({ length: count }, () => utf8('x'));
  for (const length of [0, MAX_REACTION_BYTES + 1]) {
    assert.throws(() => writeAnnotation({ kind: 'reaction', text: 'x'.repeat(length) }), RangeError);
    assert.throws(() => readAnnotation(raw('reaction', { text: bytes(length, 0x78) })), { code: 'malformed' });
  }
  for (const count of [1, MAX_OPTIONS + 1]) {
    assert.throws(() => writeAnnotation({ kind: 'poll', id: POLL, question: '', options: Array(count).fill('x') }), RangeError);
    assert.throws(() => readAnnotation(raw('poll', { id: POLL, question: utf8(''), options: options(count) })), { code: 'malformed' });
  }
  for (const choice of [-1, 0.5, MAX_OPTIONS])
    assert.throws(() => writeAnnotation({ kind: 'vote', poll: POLL, choices: [choice] }), RangeError);
  for (const [kind, body] of Object.entries({
    reaction: { text: bytes(1, 0xff) },
    edit: { body: bytes(1, 0xff) },
    poll: { id: POLL, question: utf8(''), options: [utf8('a'), bytes(1, 0xff)] },
  }))
    assert.throws(() => readAnnotation(raw(kind, body)), { code: 'malformed' }, kind);
  assert.throws(() => readAnnotation(fromHex('')), { code: 'unsupported' });
  assert.throws(() => readAnnotation(fromHex('7a00')), { code: 'unsupported' });
  assert.throws(() => readAnnotation(concat(raw('pin', {}), raw('seen', { seq: 1 }))), { code: 'malformed' });
  assert.throws(() => readAnnotation(raw('seen', { seq: 1 }).subarray(0, 3)), { code: 'malformed' });
  assert.deepEqual(
    Object.values(ANNOTATION).map(({ name }) => name),
    Object.keys(ANNOTATION_BODIES),
  );
});

test('[SEALNOTE3] An edit counts if its author wrote the target; the last one counts, and one of an unknown target counts for nothing.', () => {
  const found = fold(
    note(BEN, THREAD, { kind: 'edit', body: 'forged', title: 'forged' }),
    note(ADA, THREAD, { kind: 'edit', body: 'Who cooks?', title: 'Monday' }),
    note(ADA, REPLY, { kind: 'edit', body: 'forged' }),
    note(BEN, REPLY, { kind: 'edit', body: 'one' }),
    note(BEN, REPLY, { kind: 'edit', body: 'two' }),
    note(BEN, REPLY, { kind: 'edit', body: 'not read' }, 'waiting'),
    note(CLEO, GROUP, { kind: 'edit', body: 'of what nobody read' }),
  );
  assert.deepEqual(found.get(THREAD).edit, { body: 'Who cooks?', title: 'Monday', seq: 4, at: 1003 });
  assert.deepEqual(found.get(REPLY).edit, { body: 'two', seq: 7, at: 1006 });
  assert.equal(found.get(GROUP).edit, null);
  // A second event with the id of a reply does not change whose it is.
  const again = fold([CLEO, 'new_reply', { reply_id: REPLY }, utf8('x')], note(CLEO, REPLY, { kind: 'edit', body: 'stolen' }));
  assert.equal(again.get(REPLY).edit, null);
});

test('[SEALNOTE4] Reactions are kept by text and member, a pin until it is removed, and what a member has seen never falls.', () => {
  const heart = { kind: 'reaction', text: '❤️' };
  const found = fold(
    note(ADA, REPLY, heart),
    note(BEN, REPLY, heart),
    note(ADA, REPLY, heart),
    note(CLEO, REPLY, { kind: 'reaction', text: '__proto__' }),
    note(CLEO, REPLY, { kind: 'reaction', text: 'gone' }),
    note(CLEO, REPLY, { kind: 'reaction', text: 'gone', removed: true }),
    note(CLEO, REPLY, { kind: 'reaction', text: 'never there', removed: true }),
    note(BEN, REPLY, { ...heart, removed: true }),
    note(BEN, THREAD, { kind: 'pin' }),
    note(ADA, REPLY, { kind: 'pin' }),
    note(CLEO, REPLY, { kind: 'pin', removed: true }),
    note(ADA, THREAD, { kind: 'seen', seq: 9 }),
    note(ADA, THREAD, { kind: 'seen', seq: 4 }),
    [CLEO, 'new_annotation', { target_id: REPLY }, fromHex('7a00')],
    [CLEO, 'new_message', {}, utf8('x')],
  );
  assert.deepEqual(
    [...found.get(REPLY).reactions],
    [
      ['❤️', [ADA]],
      ['__proto__', [CLEO]],
    ],
  );
  assert.deepEqual([found.get(THREAD).pin, found.get(REPLY).pin], [{ by: BEN, seq: 11 }, null]);
  assert.deepEqual([...found.get(THREAD).seen], [[ADA, 9]]);
});

test('[SEALNOTE5] A vote counts in an earlier poll of its target, for options that it has, one of them unless several are allowed; the last one counts.', () => {
  const poll = { kind: 'poll', id: POLL, question: 'Pizza?', options: ['yes', 'no'] };
  const vote = (by, choices, target = THREAD) => note(by, target, { kind: 'vote', poll: POLL, choices });
  const found = fold(
    vote(CLEO, [0]),
    note(ADA, THREAD, poll),
    note(BEN, THREAD, { ...poll, question: 'forged' }),
    vote(ADA, [1]),
    vote(BEN, [1]),
    vote(BEN, [0]),
    vote(CLEO, [2]),
    vote(CLEO, [0, 1]),
    vote(ADA, [1], REPLY),
  )
    .get(THREAD)
    .polls.get(ID);
  assert.deepEqual(
    { ...found, votes: [...found.votes] },
    {
      ...{ question: 'Pizza?', options: ['yes', 'no'], multiple: false, by: ADA, seq: 4 },
      votes: [
        [ADA, [1]],
        [BEN, [0]],
      ],
    },
  );
  const several = fold(note(ADA, THREAD, { ...poll, multiple: true }), vote(ADA, [1, 0, 1]), vote(BEN, [1]), vote(BEN, []));
  assert.deepEqual([...several.get(THREAD).polls.get(ID).votes], [[ADA, [0, 1]]]);
});

test('[SEALNOTE6] A file’s key and the fields of an annotation are no text; an item that is no annotation has none.', () => {
  const [, said, pinned, broken] = log(thread, reply, note(ADA, REPLY, { kind: 'pin' }), note(ADA, REPLY, { kind: 'pin' }, 'waiting'));
  const file = { ...said, type: 'media_uploaded', parts: [{ kind: KINDS.media, body: utf8('the key of a file'), at: 1 }] };
  assert.deepEqual([said, pinned, file].map(textOf), ['I do.', '', '']);
  assert.deepEqual([said, pinned, { ...broken, parts: [] }].map(annotationOf), [null, { kind: 'pin', removed: false }, null]);
});
