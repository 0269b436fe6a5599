/** The cryptography: against published vectors, against other implementations, and what it refuses. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Aes256Gcm, CipherSuite, HkdfSha256 } from '@hpke/core';
import { XWing } from '@hpke/hybridkem-x-wing';
import { concat, fromHex, random, toHex, utf8 } from '../src/bytes.js';
import { MAX_AHEAD, MAX_SKIPPED, chainOf, decrypt, encrypt, skdmOf } from '../src/crypto/chain.js';
import { checkPublicKey, exportSeed, generateSigningKey, importSeed, sign, toCurve, verify } from '../src/crypto/curve.js';
import { open, seal } from '../src/crypto/hpke.js';
import { expand, extract, hkdf } from '../src/crypto/mac.js';
import { ENC_BYTES, PUBLIC_BYTES, decapsulate, encapsulate, fromSeed, generateHandles } from '../src/crypto/xwing.js';
import { readSkdm } from '../src/formats/sender-key.js';
import { PIECE_BYTES, openFile, readMediaInfo, sealFile, writeMediaInfo } from '../src/media.js';
import { matchesScan, safetyNumber, spaced } from '../src/safety.js';
import { ADA, BEN, bytes, newSigner, vectors } from './people.js';

const ORDER = 2n ** 252n + 27742317777372353535851937790883648493n;
const little = (value) => Uint8Array.from({ length: 32 }, (_, at) => Number((value >> BigInt(8 * at)) & 0xffn));
const number = (data) => data.reduceRight((sum, byte) => (sum << 8n) | BigInt(byte), 0n);

test('[CRY1] HKDF yields the outputs of RFC 5869, also with an empty salt.', async () => {
  const one = await expand(await extract(fromHex('000102030405060708090a0b0c'), bytes(22, 0x0b)), fromHex('f0f1f2f3f4f5f6f7f8f9'), 42);
  assert.equal(toHex(one), '3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865');
  assert.equal(
    toHex(await hkdf(bytes(22, 0x0b), new Uint8Array(0), '', 42)),
    '8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8',
  );
  const prk = await extract(new Uint8Array(0), bytes(22, 0x0b));
  assert.equal(toHex(prk), '19ef24a32c717b167f33a91d6f648bdf96596776afdb6377ac434c1c293ccb04');
  assert.equal(
    toHex(await expand(prk, new Uint8Array(0), 42)),
    '8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8',
  );
});

test('[CRY2] An Ed25519 key signs as its Curve25519 key: the signature carries the sign bit of the point.', async () => {
  const signs = new Set();
  for (let round = 0; round < 12; round++) {
    const { key, publicKey } = await newSigner();
    const message = random(40);
    const signature = await sign(key, message);
    signs.add(signature[63] & 0x80);
    assert.equal(publicKey[0], 5);
    assert.equal(await verify(publicKey, message, signature), true);
    assert.equal(await verify(publicKey, concat(message, bytes(1, 0)), signature), false);
    signature[63] ^= 0x80;
    assert.equal(await verify(publicKey, message, signature), false);
  }
  assert.equal(signs.size, 2, 'both signs came up');
});

test('[CRY3] A signature with S ≥ ℓ or with a wrong length is refused.', async () => {
  const { key, publicKey } = await newSigner();
  const message = utf8('once');
  const signature = await sign(key, message);
  const signBit = signature[63] & 0x80;
  const s = number(signature.subarray(32)) & (2n ** 255n - 1n);
  for (let raised = s + ORDER; raised < 2n ** 255n; raised += ORDER) {
    const forged = concat(signature.subarray(0, 32), little(raised));
    forged[63] |= signBit;
    assert.equal(await verify(publicKey, message, forged), false);
  }
  for (const length of [0, 63, 65]) assert.equal(await verify(publicKey, message, bytes(length, 1)), false);
});

test('[CRY4] A public key of low order, non-canonical encoding, wrong type or wrong length is refused everywhere.', async () => {
  const prime = 2n ** 255n - 19n;
  const low = [
    0n,
    1n,
    prime - 1n,
    325606250916557431795983626356110631294008115727848805560023387167927233504n,
    39382357235489614581723060781553021112529911719440698176882885853963445705823n,
  ];
  for (const u of [...low, prime, prime + 1n, 2n ** 255n - 1n, 2n ** 255n + 9n]) {
    const key = concat(Uint8Array.of(5), little(u));
    assert.throws(() => checkPublicKey(key), { code: 'bad_key' });
    assert.equal(await verify(key, utf8('x'), bytes(64, 0)), false);
    assert.throws(() => chainOf({ distribution: bytes(16, 1), chain: 1, iteration: 0, chainKey: bytes(32, 1), signingKey: key }), {
      code: 'bad_key',
    });
  }
  for (const key of [bytes(33, 4), bytes(32, 5), new Uint8Array(0)]) assert.throws(() => checkPublicKey(key), { code: 'bad_key' });
  const { public: xwing } = await fromSeed(random(32));
  for (const u of low) await assert.rejects(encapsulate(concat(xwing.subarray(0, 1184), little(u))), { code: 'bad_key' });
  await assert.rejects(encapsulate(concat(bytes(1184, 0xff), xwing.subarray(1184))), { code: 'bad_key' });
  await assert.rejects(encapsulate(xwing.subarray(1)), { code: 'bad_key' });
});

test('[CRY5] A seed restores the signing key that it was exported from; a non-extractable key does not reveal its seed.', async () => {
  const key = await generateSigningKey(true);
  const restored = { key: await importSeed(await exportSeed(key.key)), edwards: key.edwards };
  assert.deepEqual(await sign(restored, utf8('x')), await sign(key, utf8('x')));
  await assert.rejects(exportSeed((await generateSigningKey(false)).key));
});

test('[CRY6] X-Wing yields the keys, ciphertexts and secrets of the draft.', async () => {
  const { cases } = vectors('xwing');
  assert.equal(cases.length, 3);
  const sha256 = async (data) => toHex(new Uint8Array(await crypto.subtle.digest('SHA-256', data)));
  for (const { name, seed, coins, secret, public_begins, public_sha256, enc_begins, enc_sha256 } of cases) {
    const key = await fromSeed(fromHex(seed));
    const made = await encapsulate(key.public, fromHex(coins));
    assert.ok(toHex(key.public).startsWith(public_begins) && toHex(made.enc).startsWith(enc_begins), name);
    assert.equal(await sha256(key.public), public_sha256, name);
    assert.equal(await sha256(made.enc), enc_sha256, name);
    assert.equal(toHex(made.secret), secret, name);
    assert.equal(toHex(await decapsulate(key, made.enc)), secret, name);
  }
});

test('[CRY7] HPKE with X-Wing agrees with another implementation in both directions.', async () => {
  const suite = new CipherSuite({ kem: new XWing(), kdf: new HkdfSha256(), aead: new Aes256Gcm() });
  const seed = random(32);
  const [mine, theirs] = [await fromSeed(seed), await suite.kem.generateKeyPairDerand(seed)];
  assert.deepEqual(new Uint8Array(await suite.kem.serializePublicKey(theirs.publicKey)), mine.public);
  for (let round = 0; round < 5; round++) {
    const [info, plain] = [random(10 * round), random(50 * round)];
    const sealed = await seal(mine.public, info, plain);
    const opened = await suite.open({ recipientKey: theirs.privateKey, enc: sealed.enc, info }, sealed.ciphertext);
    assert.deepEqual(new Uint8Array(opened), plain);
    const sender = await suite.createSenderContext({ recipientPublicKey: theirs.publicKey, info });
    assert.deepEqual(await open(mine, new Uint8Array(sender.enc), info, new Uint8Array(await sender.seal(plain))), plain);
  }
});

test('[CRY8] A delivery decrypts only with its key, info and bytes.', async () => {
  const key = await generateHandles();
  assert.equal(key.public.length, PUBLIC_BYTES);
  const info = utf8('info');
  const { enc, ciphertext } = await seal(key.public, info, utf8('secret'));
  assert.equal(enc.length, ENC_BYTES);
  assert.deepEqual(await open(key, enc, info, ciphertext), utf8('secret'));
  const flipped = (data, at) => data.map((byte, index) => (index === at ? byte ^ 1 : byte));
  const refused = { code: 'cannot_open' };
  await assert.rejects(open(await fromSeed(random(32)), enc, info, ciphertext), refused);
  await assert.rejects(open(key, enc, utf8('other'), ciphertext), refused);
  await assert.rejects(open(key, flipped(enc, 3), info, ciphertext), refused);
  await assert.rejects(open(key, flipped(enc, 1100), info, ciphertext), refused);
  await assert.rejects(open(key, enc, info, flipped(ciphertext, 0)), refused);
  await assert.rejects(open(key, enc.subarray(1), info, ciphertext), { code: 'malformed' });
});

/** A chain and its signing key. */
async function newChain() {
  const signing = await generateSigningKey(false);
  const chain = {
    distribution: random(16),
    chain: 7,
    iteration: 0,
    chainKey: random(32),
    signingKey: toCurve(signing.edwards),
    skipped: [],
  };
  return { signing, chain };
}

test('[CRY9] Messages of a chain decrypt in any order, each once.', async () => {
  const { signing, chain } = await newChain();
  let sending = chain;
  const messages = [];
  for (let round = 0; round < 6; round++) {
    const made = await encrypt(sending, signing, utf8(`text ${round}`));
    sending = made.chain;
    messages.push(made.message);
  }
  let reading = chainOf(readSkdm(skdmOf(chain)));
  for (const at of [2, 0, 5, 1, 4, 3]) {
    const read = await decrypt(reading, messages[at]);
    assert.equal(new TextDecoder().decode(read.plain), `text ${at}`);
    reading = read.chain;
    await assert.rejects(decrypt(reading, messages[at]), { code: 'repeated' });
  }
  assert.deepEqual(reading.skipped, []);
  const later = chainOf(readSkdm(skdmOf(sending)));
  await assert.rejects(decrypt(later, messages[5]), { code: 'repeated' }, 'from before the first iteration given');
});

test('[CRY10] A message more than 2,000 ahead is refused before any key is derived; 2,000 skipped keys are kept.', async () => {
  const { signing, chain } = await newChain();
  const far = { ...chain, iteration: MAX_AHEAD + 1 };
  const { message } = await encrypt(far, signing, utf8('flood'));
  await assert.rejects(decrypt(chain, message), { code: 'too_far_ahead' });
  assert.equal(MAX_AHEAD, 2000);
  let sending = chain;
  for (let round = 0; round < MAX_AHEAD; round++) sending = (await encrypt(sending, signing, new Uint8Array(0))).chain;
  const read = await decrypt(chain, (await encrypt(sending, signing, utf8('edge'))).message);
  assert.equal(read.chain.skipped.length, MAX_SKIPPED);
  assert.equal(read.chain.iteration, MAX_AHEAD + 1);
});

test('[CRY11] A changed message, or one of another signer or chain, is refused, and the chain is unchanged.', async () => {
  const { signing, chain } = await newChain();
  const { message } = await encrypt(chain, signing, utf8('true'));
  for (const at of [30, 45, message.length - 1]) {
    const changed = new Uint8Array(message);
    changed[at] ^= 1;
    await assert.rejects(decrypt(chain, changed), { name: 'E2eeError' });
  }
  const forged = await encrypt(chain, await generateSigningKey(false), utf8('false'));
  await assert.rejects(decrypt(chain, forged.message), { code: 'bad_signature' });
  const other = await encrypt({ ...chain, chain: 8 }, signing, utf8('x'));
  await assert.rejects(decrypt(chain, other.message), { code: 'unknown_chain' });
  assert.deepEqual((await decrypt(chain, message)).plain, utf8('true'));
});

test('[CRY12] Two users see the same 60 digits, in any order of their devices; a changed key changes the digits, and scans match only if the keys do.', async () => {
  const [one, two, three] = [await newSigner(), await newSigner(), await newSigner()];
  const ada = { user: ADA, identities: [one.publicKey, two.publicKey] };
  const ben = { user: BEN, identities: [three.publicKey] };
  const seen = [await safetyNumber(ada, ben), await safetyNumber(ben, { user: ADA, identities: [two.publicKey, one.publicKey] })];
  assert.equal(seen[0].digits, seen[1].digits);
  assert.match(seen[0].digits, /^\d{60}$/);
  assert.match(spaced(seen[0].digits), /^(?:(?:\d{5} ){3}\d{5}\n?){3}$/);
  assert.equal(seen[0].scannable.length, 74);
  assert.equal(matchesScan(seen[0].scannable, seen[1].scannable), true);
  const swapped = await safetyNumber(ben, { user: ADA, identities: [one.publicKey, (await newSigner()).publicKey] });
  assert.notEqual(swapped.digits, seen[0].digits);
  assert.equal(matchesScan(seen[0].scannable, swapped.scannable), false);
  assert.throws(() => matchesScan(seen[0].scannable, utf8('https://example.org')), { code: 'malformed' });
  await assert.rejects(safetyNumber(ada, { user: BEN, identities: [] }), RangeError);
});

test('[CRY13] A file decrypts with its own key only, complete and in order.', async () => {
  const plain = random(65_536);
  const file = new Blob([...Array.from({ length: 32 }, () => plain), 'end']);
  const { key, sealed, sha256 } = await sealFile('m1', file);
  const info = readMediaInfo(writeMediaInfo({ key, sha256, type: 'image/png', name: 'Straße.png' }));
  assert.equal(info.name, 'Straße.png');
  const opened = await openFile('m1', info, sealed);
  assert.equal(opened.type, 'image/png');
  assert.deepEqual(new Uint8Array(await opened.arrayBuffer()), new Uint8Array(await file.arrayBuffer()));
  const hashed = async (blob) => ({ ...info, sha256: new Uint8Array(await crypto.subtle.digest('SHA-256', await blob.arrayBuffer())) });
  const refused = { code: 'cannot_open' };
  const piece = 12 + PIECE_BYTES + 16;
  const cut = sealed.slice(0, 1 + 2 * piece);
  const swapped = new Blob([
    sealed.slice(0, 1),
    sealed.slice(1 + piece, 1 + 2 * piece),
    sealed.slice(1, 1 + piece),
    sealed.slice(1 + 2 * piece),
  ]);
  for (const broken of [cut, swapped]) {
    await assert.rejects(openFile('m1', info, broken), refused, 'by its hash');
    await assert.rejects(openFile('m1', await hashed(broken), broken), refused, 'by its pieces');
  }
  await assert.rejects(openFile('m2', info, sealed), refused);
  await assert.rejects(openFile('m1', { ...info, key: bytes(32, 1) }, sealed), refused);
  await assert.rejects(openFile('m1', info, new Blob([Uint8Array.of(1), sealed.slice(1)])), { code: 'unsupported' });
  const empty = await sealFile('m3', new Blob([]));
  assert.equal((await openFile('m3', { ...info, ...empty }, empty.sealed)).size, 0);
  await assert.rejects(openFile('m3', await hashed(empty.sealed.slice(0, 1)), empty.sealed.slice(0, 1)), refused);
  await assert.rejects(sealFile('m4', file, AbortSignal.abort()), { name: 'AbortError' });
  const notText = writeMediaInfo({ key, sha256, type: 'a', name: 'b' });
  notText[notText.length - 1] = 0xff;
  assert.throws(() => readMediaInfo(notText), { code: 'malformed' });
});
