/** The committed vectors, offline: those that libsignal made, those of drafts, and those of the project's own formats. */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { test } from 'node:test';
import { vectors as made } from '../scripts/vectors.js';
import { fromHex, toHex, uuidText } from '../src/bytes.js';
import { chainOf, decrypt, encrypt, skdmOf } from '../src/crypto/chain.js';
import { importSeed, sign, verify } from '../src/crypto/curve.js';
import { open } from '../src/crypto/hpke.js';
import { hkdf, sha256 } from '../src/crypto/mac.js';
import { fromSeed } from '../src/crypto/xwing.js';
import { readContent, writeContent } from '../src/formats/content.js';
import { readEnvelope, readPairwise, readSigned, signedBytes, writeEnvelope, writePairwise } from '../src/formats/envelope.js';
import { linkNumber, linkPoint, openLink, readLinkCode } from '../src/formats/link.js';
import { readRecord } from '../src/formats/records.js';
import { readSenderKeyMessage, readSkdm, writeSkdm } from '../src/formats/sender-key.js';
import { preKeyBytes } from '../src/hpke-delivery.js';
import { founderHash, readInvite, writeInvite } from '../src/invite.js';
import { allSecrets, fold } from '../src/roster.js';
import { safetyNumber } from '../src/safety.js';
import { vectors } from './people.js';

/** Byte strings as hexadecimal. */
const plain = (value) => JSON.parse(JSON.stringify(value, (_, one) => (one instanceof Uint8Array ? toHex(one) : one)));
const NAMES = [
  'chains',
  'contents',
  'deliveries',
  'envelopes',
  'hkdf',
  'identities',
  'invites',
  'links',
  'records',
  'refusals',
  'safety-numbers',
  'signatures',
  'xwing',
];

test('[VEC1] The committed vectors equal those that the code generates, and every file of vectors has a test.', async () => {
  assert.deepEqual(
    readdirSync(new URL('../../../spec/vectors/e2ee/', import.meta.url)).sort(),
    NAMES.map((name) => `${name}.json`),
  );
  for (const [name, content] of Object.entries(await made()))
    assert.deepEqual(content, vectors(name), `${name}: run node scripts/vectors.js`);
});

test('[VEC2] Chains of libsignal match: distribution messages, keys and every message, out of order.', async () => {
  const { cases, source } = vectors('chains');
  assert.match(source, /libsignal \d+\.\d+\.\d+$/);
  for (const { name, distribution, chain, chain_key, iteration, skdm, messages, after, read_in_order } of cases) {
    const read = readSkdm(fromHex(skdm));
    assert.deepEqual(
      [uuidText(read.distribution), read.chain, read.iteration, toHex(read.chainKey)],
      [distribution, chain, iteration, chain_key],
      name,
    );
    assert.equal(toHex(writeSkdm(read)), skdm, name);
    let state = chainOf(read);
    for (const at of read_in_order) {
      const found = await decrypt(state, fromHex(messages[at].message));
      assert.equal(toHex(found.plain), messages[at].plain, `${name}, message ${at}`);
      state = found.chain;
    }
    assert.equal(toHex(skdmOf(state)), after.skdm, name);
    assert.deepEqual([state.iteration, toHex(state.chainKey)], [after.iteration, after.chain_key], name);
    const seed = crypto.subtle.generateKey('Ed25519', true, ['sign', 'verify']);
    let sending = chainOf(read);
    for (const { plain: text, message } of messages) {
      // Another signature key, so the bytes before the signature are compared.
      const again = await encrypt(sending, { key: (await seed).privateKey, edwards: new Uint8Array(32) }, fromHex(text));
      assert.equal(toHex(again.message.subarray(0, -64)), message.slice(0, -128), name);
      sending = again.chain;
    }
    assert.deepEqual(readSenderKeyMessage(fromHex(messages[0].message)).iteration, 0);
  }
  assert.equal(cases.length, 6);
});

test('[VEC3] Signatures of libsignal verify; changed ones do not, nor does S + ℓ, which libsignal accepts.', async () => {
  const { cases } = vectors('signatures');
  for (const { name, public_key, message, signature, valid } of cases)
    assert.equal(await verify(fromHex(public_key), fromHex(message), fromHex(signature)), valid, name);
  assert.equal(cases.length, 64);
  assert.ok(cases.filter(({ name }) => name.endsWith('S + ℓ')).every(({ libsignal }) => libsignal));
});

test('[VEC4] Safety numbers equal libsignal’s, digits and scannable bytes.', async () => {
  for (const { name, local, remote, digits, scannable } of vectors('safety-numbers').cases) {
    const person = ({ user, identity }) => ({ user, identities: [fromHex(identity)] });
    const found = await safetyNumber(person(local), person(remote));
    assert.deepEqual([found.digits, toHex(found.scannable)], [digits, scannable], name);
  }
});

test('[VEC5] HKDF output equals libsignal’s.', async () => {
  for (const { name, material, salt, info, length, output } of vectors('hkdf').cases)
    assert.equal(toHex(await hkdf(fromHex(material), salt ? fromHex(salt) : new Uint8Array(0), info, length)), output, name);
});

test('[VEC6] A seed yields its identity key and its signatures.', async () => {
  for (const { name, seed, public_key, message, signature } of vectors('identities').cases) {
    const edwards = Buffer.from((await crypto.subtle.exportKey('jwk', await importSeed(fromHex(seed), true))).x, 'base64url');
    assert.equal(toHex(await sign({ key: await importSeed(fromHex(seed)), edwards }, fromHex(message))), signature, name);
    assert.equal(await verify(fromHex(public_key), fromHex(message), fromHex(signature)), true, name);
  }
});

test('[VEC7] Contents, envelopes and pairwise messages are decoded and encoded byte for byte.', () => {
  for (const { name, content, padded } of vectors('contents').cases) {
    const read = readContent(fromHex(padded));
    assert.deepEqual(plain(read), content, name);
    assert.equal(toHex(writeContent(read)), padded, name);
  }
  const { envelopes, pairwises } = vectors('envelopes');
  for (const { name, envelope, bytes } of envelopes) {
    assert.deepEqual(plain(readEnvelope(fromHex(bytes))), envelope, name);
    assert.equal(toHex(writeEnvelope(readEnvelope(fromHex(bytes)))), bytes, name);
  }
  for (const { name, pairwise, bytes } of pairwises) {
    assert.deepEqual(plain(readPairwise(fromHex(bytes))), pairwise, name);
    assert.equal(toHex(writePairwise(readPairwise(fromHex(bytes)))), bytes, name);
  }
});

test('[VEC8] Every refusal has its error code.', () => {
  const parsers = {
    envelope: readEnvelope,
    message: readSenderKeyMessage,
    skdm: readSkdm,
    content: readContent,
    record: (data) => readRecord('0a0b0c0d-0000-4000-8000-000000000001', data),
  };
  for (const { name, parser, bytes, code } of vectors('refusals').cases)
    assert.throws(() => parsers[parser](fromHex(bytes)), { code }, name);
});

test('[VEC9] Invites are decoded and encoded; other spellings are refused.', async () => {
  const { cases, refused } = vectors('invites');
  for (const { secret, founder_identity, text } of cases) {
    const founder = await founderHash(fromHex(founder_identity));
    assert.equal(writeInvite({ secret: fromHex(secret), founder }), text);
    assert.deepEqual(plain(readInvite(text)), { secret, founder: toHex(founder) });
  }
  for (const text of refused) assert.equal(readInvite(text), null, text);
});

test('[VEC10] Deliveries decrypt with their pre-key, and their signatures verify.', async () => {
  for (const { name, identity, info, pairwise, signed, sealed, pre_key } of vectors('deliveries').cases) {
    const key = await fromSeed(fromHex(pre_key.seed));
    assert.equal(toHex(await sha256(key.public)), pre_key.public_sha256, name);
    assert.equal(await verify(fromHex(pre_key.owner), preKeyBytes(pre_key.id, key.public), fromHex(pre_key.signature)), true, name);
    const bytes = fromHex(sealed);
    assert.equal(new DataView(bytes.buffer).getUint32(0), pre_key.id, name);
    const opened = await open(key, bytes.subarray(4, 1124), fromHex(info), bytes.slice(1124));
    assert.equal(toHex(opened), signed, name);
    const read = readSigned(opened);
    assert.deepEqual([toHex(read.pairwise), toHex(read.identity)], [pairwise, identity], name);
    assert.equal(await verify(read.identity, signedBytes(fromHex(info), pre_key.id, read.pairwise), read.signature), true, name);
  }
});

test('[VEC11] Records fold into the expected rosters, and each refused record has its reason.', async () => {
  const { group, founder, latest_secret, earlier_secrets, records, rosters } = vectors('records');
  const log = records.map(({ seq, author, bytes }) => ({ seq, author, bytes: fromHex(bytes) }));
  for (const { name, body, bytes } of records) assert.deepEqual(plain(readRecord(group, fromHex(bytes)).body), body, name);
  const secrets = await allSecrets(group, log, new Map([[latest_secret.number, fromHex(latest_secret.secret)]]));
  for (const [number, secret] of Object.entries(earlier_secrets)) assert.equal(toHex(secrets.get(Number(number))), secret);
  for (const { name, accepted, roster } of rosters) {
    const { group: _, ...found } = await fold(group, log, { founder: fromHex(founder), secrets, accepted: new Set(accepted) });
    assert.deepEqual(plain(found), roster, name);
  }
});

test('[VEC13] The code of a new device and the message for it have the committed bytes, and open to the committed fields.', async () => {
  const { code, scalar, text, cases } = vectors('links');
  const { bytes: written, ...read } = await readLinkCode(text);
  assert.deepEqual(plain(read), code);
  assert.equal(toHex(await linkPoint(fromHex(scalar))), code.point);
  for (const { name, body, sealed, number } of cases) {
    assert.deepEqual(plain(await openLink({ ...read, bytes: written }, fromHex(scalar), fromHex(sealed))), body, name);
    assert.equal(await linkNumber(written, fromHex(sealed)), number, name);
  }
});
