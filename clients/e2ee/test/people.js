/** What the tests share: identities, fixed bytes, and the committed vectors. */
import { readFileSync } from 'node:fs';
import { fromHex } from '../src/bytes.js';
import { generateSigningKey, sign, toCurve } from '../src/crypto/curve.js';

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

export const hex = fromHex;
