// SPDX-License-Identifier: AGPL-3.0-only
/**
 * Make the vectors that libsignal decides, by running it: sender-key chains, signatures, safety numbers, HKDF.
 *
 * libsignal makes random keys, so each run gives others; what is committed was made by the version that the file names.
 */
import { readFileSync, writeFileSync } from 'node:fs';
// biome-ignore format: a list is read across the line
import {
  Fingerprint, PrivateKey, ProtocolAddress, PublicKey, SenderKeyDistributionMessage, SenderKeyMessage, groupEncrypt, hkdf,
} from '@signalapp/libsignal-client';
import { Unit, memoryStore, toHex, uuidBytes } from '@orbital-relay/e2ee';
import { SenderKeys } from '../src/stores.js';

const FOLDER = new URL('../../../spec/vectors/e2ee/', import.meta.url);
const { version } = JSON.parse(readFileSync(new URL('../node_modules/@signalapp/libsignal-client/package.json', import.meta.url), 'utf8'));
const ORDER = 2n ** 252n + 27742317777372353535851937790883648493n;
const random = (length) => crypto.getRandomValues(new Uint8Array(length));

async function chains() {
  const cases = [];
  for (let at = 0; at < 6; at++) {
    const [store, sender, distribution] = [
      new SenderKeys(new Unit(memoryStore())),
      ProtocolAddress.new('aaaaaaaa-0000-4000-8000-00000000000a', 1 + at),
      crypto.randomUUID(),
    ];
    const first = await SenderKeyDistributionMessage.create(sender, distribution, store);
    const messages = [];
    for (let iteration = 0; iteration < 8; iteration++) {
      const plain = random([0, 1, 15, 16, 17, 159, 319, 500][iteration]);
      const bytes = (await groupEncrypt(sender, distribution, store, plain)).serialize();
      const read = SenderKeyMessage.deserialize(bytes);
      messages.push({
        iteration: read.iteration(),
        chain: read.chainId(),
        ciphertext: toHex(read.ciphertext()),
        plain: toHex(plain),
        message: toHex(bytes),
      });
    }
    const later = await SenderKeyDistributionMessage.create(sender, distribution, store);
    // biome-ignore format: a list is read across the line
    cases.push({
      name: `chain ${at + 1}`, distribution, chain: first.chainId(), chain_key: toHex(first.chainKey()), iteration: first.iteration(), skdm: toHex(first.serialize()), messages,
      after: { iteration: later.iteration(), chain_key: toHex(later.chainKey()), skdm: toHex(later.serialize()) },
      read_in_order: messages.map((_, index) => (index * 5 + at) % messages.length),
    });
  }
  return { cases };
}

/** What the signature becomes when ℓ is added to its S. */
function raised(signature) {
  const forged = new Uint8Array(signature);
  const sign = forged[63] & 0x80;
  let s = forged.subarray(32).reduceRight((sum, byte, at) => (sum << 8n) | BigInt(at === 31 ? byte & 0x7f : byte), 0n) + ORDER;
  for (let at = 32; at < 64; at++, s >>= 8n) forged[at] = Number(s & 0xffn);
  forged[63] |= sign;
  return forged;
}

function signatures() {
  const cases = [];
  for (let at = 0; at < 16; at++) {
    const [key, message] = [PrivateKey.generate(), random(at * 9)];
    const publicKey = key.getPublicKey().serialize();
    const signature = key.sign(message);
    const row = (name, bytes, text = message) => ({
      name: `${at + 1}: ${name}`,
      public_key: toHex(publicKey),
      message: toHex(text),
      signature: toHex(bytes),
      libsignal: PublicKey.deserialize(publicKey).verify(text, bytes),
    });
    const other = new Uint8Array(signature);
    other[63] ^= 0x80;
    const broken = new Uint8Array(signature);
    broken[at] ^= 1;
    cases.push({ ...row('as signed', signature), valid: true }, { ...row('S + ℓ', raised(signature)), valid: false });
    cases.push({ ...row('the other sign', other), valid: false }, { ...row('a changed R', broken), valid: false });
  }
  return { cases };
}

function safetyNumbers() {
  const cases = [];
  for (let at = 0; at < 5; at++) {
    const [local, remote] = [PrivateKey.generate().getPublicKey(), PrivateKey.generate().getPublicKey()];
    const [user, other] = [crypto.randomUUID(), crypto.randomUUID()];
    const made = Fingerprint.new(5200, 2, uuidBytes(user), local, uuidBytes(other), remote);
    // biome-ignore format: a list is read across the line
    cases.push({
      name: `pair ${at + 1}`, local: { user, identity: toHex(local.serialize()) }, remote: { user: other, identity: toHex(remote.serialize()) },
      digits: made.displayableFingerprint().toString(), scannable: toHex(made.scannableFingerprint().toBuffer()),
    });
  }
  return { cases };
}

function derivations() {
  const cases = [];
  for (const [length, info] of [
    [32, ''],
    [48, 'WhisperGroup'],
    [64, 'x'.repeat(100)],
    [1, 'y'],
  ])
    for (const salt of [null, random(32)]) {
      const material = random(32);
      // biome-ignore format: a list is read across the line
      cases.push({
        name: `${length} bytes, ${salt ? 'salted' : 'no salt'}`, material: toHex(material), salt: salt && toHex(salt), info, length,
        output: toHex(hkdf(length, material, new TextEncoder().encode(info), salt)),
      });
    }
  return { cases };
}

const files = { chains: await chains(), signatures: signatures(), 'safety-numbers': safetyNumbers(), hkdf: derivations() };
for (const [name, content] of Object.entries(files))
  writeFileSync(
    new URL(`${name}.json`, FOLDER),
    `${JSON.stringify({ source: `made by running libsignal ${version}`, ...content }, null, 2)}\n`,
  );
