/** The formats, byte for byte, and what their parsers refuse. */
import assert from 'node:assert/strict';
import { readAnnotation, writeAnnotation } from '../src/annotation-kinds.js';
import { test } from 'node:test';
import fc from 'fast-check';
import { concat, fromBase64, fromHex, random, toBase64, toBase64Url, toHex, utf8, uuidBytes, uuidText } from '../src/bytes.js';
import { E2eeError } from '../src/errors.js';
import { KINDS, readContent, writeContent } from '../src/formats/content.js';
import {
  deliveryInfo,
  readEnvelope,
  readPairwise,
  readSigned,
  writeEnvelope,
  writePairwise,
  writeSigned,
} from '../src/formats/envelope.js';
import { MAX_REPEATED, decode, encode } from '../src/formats/protobuf.js';
import { readRecord } from '../src/formats/records.js';
import { ENVELOPE } from '../src/formats/schemas.js';
import { readSenderKeyMessage, readSkdm, senderKeyBody, writeSkdm } from '../src/formats/sender-key.js';
import { readInvite, writeInvite } from '../src/invite.js';
import { readMediaInfo } from '../src/media.js';

const GROUP = '0a0b0c0d-0000-4000-8000-000000000001';
const ADA = 'aaaaaaaa-0000-4000-8000-00000000000a';
const BEN = 'bbbbbbbb-0000-4000-8000-00000000000b';
const malformed = { name: 'E2eeError', code: 'malformed' };
const bytes = (length, value) => new Uint8Array(length).fill(value);
const SCHEMA = {
  1: { name: 'number', type: 'uint' },
  2: { name: 'text', type: 'bytes', length: 2 },
  3: { name: 'many', type: 'uint', repeated: true },
};

test('[FMT1] A message is encoded in the order of its fields, with numbers in their shortest form.', () => {
  assert.equal(toHex(encode(SCHEMA, { text: utf8('ab'), number: 300, many: [0, 127, 128] })), '08ac0212026162' + '1800187f188001');
  assert.equal(toHex(encode(SCHEMA, {})), '');
  assert.throws(() => encode(SCHEMA, { text: utf8('abc') }), RangeError);
  for (const number of [-1, 1.5, 2 ** 32, NaN]) assert.throws(() => encode(SCHEMA, { number }), RangeError);
});

test('[FMT2] Unknown fields are skipped; a duplicate single field keeps the last value, a repeated field all values.', () => {
  const unknown = '2001' + '290102030405060708' + '3201ff' + '3d01020304';
  assert.deepEqual(decode(SCHEMA, fromHex('0801' + unknown + '0802' + '1801' + '1802')), { number: 2, many: [1, 2] });
});

test('[FMT3] Truncated, overlong or out-of-range input, a wrong wire type or length, or a group is malformed.', () => {
  const refused = {
    'a truncated number': '0880',
    'a missing number': '08',
    'a truncated byte string': '120361',
    'a number not in its shortest form': '088100',
    'a number above its bound': '088080808010',
    'a number of nine bytes': '08ffffffffffffffffff01',
    'a number above 2^53': '08ffffffffffffff7f',
    'field number 0': '0001',
    'a group': '2301',
    'wire type 6': '2601',
    'a known field of another wire type': '0a0161',
    'a byte string of another length': '120161',
  };
  for (const [what, hex] of Object.entries(refused)) assert.throws(() => decode(SCHEMA, fromHex(hex)), malformed, what);
  assert.throws(() => decode(SCHEMA, concat(...Array.from({ length: MAX_REPEATED + 1 }, () => Uint8Array.of(0x18, 1)))), malformed);
  assert.throws(() => readEnvelope(fromHex('02' + '1200')), malformed, 'a required field is missing');
});

test('[FMT4] An envelope begins with its version and contains content, keys or a request; another version is unsupported.', () => {
  const keys = { device: 1, epoch: 2 ** 40, deliveries: [{ user: BEN, device: 127, suite: 16, sealed: bytes(3, 9) }] };
  const request = { device: 3, distribution: bytes(16, 7) };
  assert.equal(toHex(writeEnvelope({ content: utf8('x') })), '020a0178');
  assert.deepEqual(readEnvelope(writeEnvelope({ keys })), { keys });
  assert.deepEqual(readEnvelope(writeEnvelope({ request })), { request });
  assert.equal(
    toHex(writeEnvelope({ keys })),
    '02' + '1226' + '0801' + '10808080808020' + '1a1b' + '0a10bbbbbbbb0000400080000000000000' + '0b' + '107f' + '1810' + '2203090909',
  );
  for (const first of [0, 1, 3, 255]) assert.throws(() => readEnvelope(Uint8Array.of(first)), { code: 'unsupported' });
  assert.throws(() => readEnvelope(new Uint8Array(0)), { code: 'unsupported' });
});

test('[FMT5] Pairwise, history and signature round-trip; the info binds group, sender and receiver.', () => {
  const pairwise = {
    group: GROUP,
    skdm: bytes(96, 1),
    epoch: 7,
    headSeq: 9,
    headHash: bytes(16, 2),
    history: [{ user: ADA, device: 2, skdm: bytes(4, 3), proof: bytes(5, 4), proofKeyId: 11 }],
    secret: bytes(16, 5),
    secretNumber: 1,
    shareable: true,
  };
  assert.deepEqual(readPairwise(writePairwise(pairwise)), pairwise);
  const bare = { group: GROUP, epoch: 0, history: [], shareable: false };
  assert.deepEqual(readPairwise(writePairwise(bare)), bare);
  const signed = { pairwise: writePairwise(bare), identity: bytes(33, 5), signature: bytes(64, 6) };
  assert.deepEqual(readSigned(writeSigned(signed)), signed);
  assert.equal(
    toHex(deliveryInfo(GROUP, { user: ADA, device: 1 }, { user: BEN, device: 2 })),
    toHex(utf8('orbital/2 keys')) + '00' + [GROUP, ADA, '01', BEN, '02'].join('').replace(/-/g, ''),
  );
});

test('[FMT6] A SenderKeyMessage of a short text has the layout of the contract: an envelope of 258 bytes.', () => {
  const fields = { distribution: bytes(16, 1), chain: 2 ** 31 - 1, iteration: 0, ciphertext: bytes(160, 3) };
  const body = senderKeyBody(fields);
  const message = concat(body, bytes(64, 4));
  assert.equal(toHex(body), '33' + '0a10' + '01'.repeat(16) + '10ffffffff07' + '1800' + '22a001' + '03'.repeat(160));
  const envelope = writeEnvelope({ content: message });
  assert.equal(envelope.length, 258);
  assert.equal(toHex(envelope.subarray(0, 5)), '020afe0133');
  assert.deepEqual(readSenderKeyMessage(message), { ...fields, signed: body, signature: bytes(64, 4) });
  for (const broken of [
    message.subarray(0, 60),
    concat(senderKeyBody({ ...fields, ciphertext: bytes(15, 3) }), bytes(64, 4)),
    concat(senderKeyBody({ ...fields, ciphertext: bytes(0, 0) }), bytes(64, 4)),
  ])
    assert.throws(() => readSenderKeyMessage(broken), malformed);
  assert.throws(() => readSenderKeyMessage(concat(Uint8Array.of(0x32), message.subarray(1))), { code: 'unsupported' });
});

test('[FMT7] An SKDM distributes a chain from a given iteration on.', () => {
  const skdm = { distribution: bytes(16, 1), chain: 5, iteration: 300, chainKey: bytes(32, 2), signingKey: bytes(33, 3) };
  assert.equal(
    toHex(writeSkdm(skdm)),
    '33' + '0a10' + '01'.repeat(16) + '1005' + '18ac02' + '2220' + '02'.repeat(32) + '2a21' + '03'.repeat(33),
  );
  assert.deepEqual(readSkdm(writeSkdm(skdm)), skdm);
  assert.throws(() => readSkdm(writeSkdm(skdm).subarray(0, 90)), malformed);
  assert.throws(() => readSkdm(Uint8Array.of(0x44)), { code: 'unsupported' });
});

test('[FMT8] Content is padded to 160·n − 1 bytes, which hides the length of short texts; other padding is malformed.', () => {
  const content = {
    kind: KINDS.reply,
    group: GROUP,
    context: bytes(16, 1),
    at: 1_700_000_000_000,
    body: utf8('hello'),
    headSeq: 4,
    headHash: bytes(16, 2),
    nonce: bytes(16, 3),
  };
  for (const length of [0, 1, 30, 31, 32, 33, 34, 200, 5000]) {
    const written = writeContent({ ...content, body: bytes(length, 0) });
    assert.equal((written.length + 1) % 160, 0);
    assert.deepEqual(readContent(written), { ...content, body: bytes(length, 0) });
  }
  assert.equal(writeContent(content).length, 159);
  const written = writeContent(content);
  assert.throws(() => readContent(written.subarray(1)), malformed);
  assert.throws(() => readContent(bytes(159, 0)), malformed);
  assert.throws(() => readContent(bytes(159, 1)), malformed);
  assert.throws(() => readContent(new Uint8Array(0)), malformed);
});

test('[FMT9] An invite is 43 characters that encode one secret and one founder; anything else is refused.', () => {
  const invite = { secret: bytes(16, 0xab), founder: bytes(16, 0xcd) };
  const text = writeInvite(invite);
  assert.equal(text.length, 43);
  assert.deepEqual(readInvite(text), invite);
  assert.deepEqual(readInvite(` ${text.slice(0, 20)}\n${text.slice(20)} `), invite);
  for (const bad of ['', text.slice(1), `${text}A`, text.replace(/.$/, '='), text.slice(0, 42) + '1', text.replace('q', '+')])
    assert.equal(readInvite(bad), null, bad);
});

test('[FMT10] Base64, hexadecimal and UUIDs are accepted in canonical form only.', () => {
  for (const length of [0, 1, 2, 3, 100, 70_000]) {
    const data = new Uint8Array(Buffer.alloc(length, 251));
    assert.deepEqual(fromBase64(toBase64(data)), data);
    assert.deepEqual(fromBase64(toBase64Url(data)), data);
  }
  for (const bad of ['a', 'ab*d', 'ab=c', 'a b=']) assert.throws(() => fromBase64(bad), RangeError);
  assert.equal(uuidText(uuidBytes(GROUP)), GROUP);
  for (const bad of ['', GROUP.toUpperCase(), `${GROUP}0`]) assert.throws(() => uuidBytes(bad), RangeError);
  assert.throws(() => fromHex('0'), RangeError);
});

// biome-ignore format: a list is read across the line
const PARSERS = {
  envelope: readEnvelope, pairwise: readPairwise, signed: readSigned, message: readSenderKeyMessage, skdm: readSkdm, content: readContent,
  record: (data) => readRecord(GROUP, data), media: readMediaInfo, annotation: readAnnotation,
};

test('[FMT11] Fuzzed: every parser returns a value or throws E2eeError for every byte string.', () => {
  const seeds = [
    writeEnvelope({
      keys: { device: 1, epoch: 3, deliveries: [{ user: ADA, device: 1, suite: 16, sealed: random(40) }] },
      request: { device: 1, distribution: random(16) },
    }),
    writePairwise({ group: GROUP, epoch: 1, history: [{ user: ADA, device: 1, skdm: random(9) }], shareable: true }),
    concat(senderKeyBody({ distribution: random(16), chain: 1, iteration: 1, ciphertext: random(16) }), random(64)),
    writeContent({ kind: 1, group: GROUP, context: random(16), at: 1, body: utf8('x'), nonce: random(16) }),
    writeAnnotation({ kind: 'poll', id: random(16), question: '?', options: ['a', 'b'], multiple: true }),
    writeAnnotation({ kind: 'vote', poll: random(16), choices: [0, 1] }),
  ];
  const mutated = fc
    .tuple(fc.constantFrom(...seeds), fc.array(fc.tuple(fc.nat(300), fc.nat(255)), { maxLength: 4 }), fc.nat(300))
    .map(([seed, changes, cut]) => {
      const data = new Uint8Array(seed);
      for (const [at, value] of changes) data[at % data.length] = value;
      return data.subarray(0, cut || data.length);
    });
  const prefixed = fc
    .tuple(fc.constantFrom(0x02, 0x33, 0x0a), fc.uint8Array({ maxLength: 200 }))
    .map(([first, rest]) => concat(Uint8Array.of(first), rest));
  for (const [name, parse] of Object.entries(PARSERS))
    fc.assert(
      fc.property(fc.oneof(fc.uint8Array({ maxLength: 400 }), prefixed, mutated), (data) => {
        try {
          assert.equal(typeof parse(data), 'object');
        } catch (error) {
          assert.ok(error instanceof E2eeError, `${name}: ${error}`);
        }
      }),
      { numRuns: 3000 },
    );
});

test('[FMT12] Fuzzed: encoded values decode to equal values, for any field values.', () => {
  const id = fc.uint8Array({ minLength: 16, maxLength: 16 });
  const user = id.map((data) => uuidText(data));
  const device = fc.integer({ min: 1, max: 127 });
  const data = fc.uint8Array({ maxLength: 300 });
  const delivery = fc.record({ user, device, suite: fc.constantFrom(1, 2, 16), sealed: data });
  const envelope = fc.oneof(
    fc.record({ content: data }),
    fc.record({ keys: fc.record({ device, epoch: fc.maxSafeNat(), deliveries: fc.array(delivery, { maxLength: 5 }) }) }),
    fc.record({ request: fc.record({ device, distribution: id }) }),
  );
  const plain = (value) => JSON.parse(JSON.stringify(value, (_, one) => (one instanceof Uint8Array ? toHex(one) : one)));
  fc.assert(fc.property(envelope, (one) => assert.deepEqual(plain(readEnvelope(writeEnvelope(one))), plain(one))));
  const content = fc.record({ kind: fc.nat(9), group: user, context: id, at: fc.maxSafeNat(), body: data, nonce: id });
  fc.assert(fc.property(content, (one) => assert.deepEqual(plain(readContent(writeContent(one))), plain(one))));
  assert.deepEqual(decode(ENVELOPE, encode(ENVELOPE, {})), {});
});
