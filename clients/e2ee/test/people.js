/** What the tests share: identities, fixed bytes, and the committed vectors. */
import { readFileSync } from 'node:fs';
import { fromBase64, fromHex, toBase64 } from '../src/bytes.js';
import { generateSigningKey, sign, toCurve } from '../src/crypto/curve.js';
import { readEnvelope, writeEnvelope } from '../src/formats/envelope.js';

export const GROUP = '0a0b0c0d-0000-4000-8000-000000000001';
export const OTHER_GROUP = '0a0b0c0d-0000-4000-8000-000000000002';
export const ADA = 'aaaaaaaa-0000-4000-8000-00000000000a';
export const BEN = 'bbbbbbbb-0000-4000-8000-00000000000b';
export const CLEO = 'cccccccc-0000-4000-8000-00000000000c';

/** @param {string} name */
export const vectors = (name) => JSON.parse(readFileSync(new URL(`../../../spec/vectors/e2ee/${name}.json`, import.meta.url), 'utf8'));

/** @param {number} length @param {number} value */
export const bytes = (length, value) => new Uint8Array(length).fill(value);

/** A new identity that signs. */
export async function newSigner() {
  const key = await generateSigningKey(true);
  return { key, publicKey: toCurve(key.edwards), sign: (message) => sign(key, message) };
}

/** A number from a seed: mulberry32. */
export function seeded(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = state;
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** The order of the curve's base point. */
const ORDER = 2n ** 252n + 27742317777372353535851937790883648493n;

/** Raise the S of a message's signature by ℓ, which leaves it valid for verifiers that do not look. */
export function raised(text) {
  const { content } = readEnvelope(fromBase64(text));
  const s = content.subarray(content.length - 32);
  const sign = s[31] & 0x80;
  let value = s.reduceRight((sum, byte, at) => (sum << 8n) | BigInt(at === 31 ? byte & 0x7f : byte), 0n) + ORDER;
  for (let at = 0; at < 32; at++, value >>= 8n) s[at] = Number(value & 0xffn);
  s[31] |= sign;
  return toBase64(writeEnvelope({ content }));
}

export const hex = fromHex;
