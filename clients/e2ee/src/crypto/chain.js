/**
 * Sender-key chains: what one message key is derived from, and a message's encryption, as libsignal has them.
 *
 * Order of reading: the signature first, then the key, then AES-CBC; AES-CBC without a MAC is safe only so.
 */
import { concat, copy } from '../bytes.js';
import { E2eeError } from '../errors.js';
import { readSenderKeyMessage, senderKeyBody, writeSkdm } from '../formats/sender-key.js';
import { checkPublicKey, sign, verify } from './curve.js';
import { hkdf, hmacs } from './mac.js';

/** @import { Bytes } from '../bytes.js' */
/** @import { SigningKey } from './curve.js' */
/** @import { SenderKeyMessage, Skdm } from '../formats/sender-key.js' */

/** A message further ahead of the last one read is refused before any key is derived. */
export const MAX_AHEAD = 2000;
/** Message keys kept for messages that were passed over. */
export const MAX_SKIPPED = 2000;
const SALT = new Uint8Array(32);
const INFO = 'WhisperGroup';

/**
 * @typedef {object} Chain
 * @property {Bytes} distribution
 * @property {number} chain
 * @property {number} iteration Of the next message.
 * @property {Bytes} chainKey Of the next message.
 * @property {Bytes} signingKey 33 bytes.
 * @property {{iteration: number, seed: Bytes}[]} skipped Oldest first.
 */

const STEPS = [Uint8Array.of(1), Uint8Array.of(2)];

/** @param {Bytes} chainKey @returns {Promise<{seed: Bytes, next: Bytes}>} The seed of this iteration's message key, and the next chain key. */
async function step(chainKey) {
  const [seed, next] = /** @type {[Bytes, Bytes]} */ (await hmacs(chainKey, STEPS));
  return { seed, next };
}

/** @param {Bytes} seed @param {'encrypt' | 'decrypt'} use */
async function messageKey(seed, use) {
  const derived = await hkdf(seed, SALT, INFO, 48);
  return { iv: derived.slice(0, 16), key: await crypto.subtle.importKey('raw', derived.slice(16), 'AES-CBC', false, [use]) };
}

/** @param {Skdm} skdm @returns {Chain} @throws {E2eeError} `bad_key`. */
export function chainOf({ distribution, chain, iteration, chainKey, signingKey }) {
  checkPublicKey(signingKey);
  return { distribution, chain, iteration, chainKey, signingKey, skipped: [] };
}

/** @param {Chain} chain @returns {Bytes} The SKDM that gives the chain from its present iteration on. */
export const skdmOf = (chain) => writeSkdm(chain);

/**
 * Encrypt the chain's next message.
 *
 * @param {Chain} chain
 * @param {SigningKey} signing
 * @param {Bytes} plain
 * @returns {Promise<{message: Bytes, chain: Chain}>} The chain as it stands after the message; the caller stores it before it posts.
 */
export async function encrypt(chain, signing, plain) {
  const { seed, next } = await step(chain.chainKey);
  const { iv, key } = await messageKey(seed, 'encrypt');
  const ciphertext = new Uint8Array(await crypto.subtle.encrypt({ name: 'AES-CBC', iv }, key, plain));
  const body = senderKeyBody({ distribution: chain.distribution, chain: chain.chain, iteration: chain.iteration, ciphertext });
  return {
    message: concat(body, await sign(signing, body)),
    chain: { ...chain, iteration: chain.iteration + 1, chainKey: next },
  };
}

/**
 * Decrypt a message.
 *
 * @param {Chain} chain
 * @param {SenderKeyMessage | Uint8Array} bytes
 * @returns {Promise<{plain: Bytes, chain: Chain}>} The chain as it stands after the message; the given one is unchanged.
 * @throws {E2eeError} `unknown_chain`, `too_far_ahead`, `bad_signature`, `repeated` (used, or older than what is kept), `cannot_open`.
 */
export async function decrypt(chain, bytes) {
  const message = bytes instanceof Uint8Array ? readSenderKeyMessage(bytes) : bytes;
  if (message.chain !== chain.chain) throw new E2eeError('unknown_chain', `chain ${message.chain} of this distribution is unknown`);
  if (message.iteration - chain.iteration > MAX_AHEAD)
    throw new E2eeError('too_far_ahead', `iteration ${message.iteration} is more than ${MAX_AHEAD} ahead of ${chain.iteration}`);
  if (!(await verify(chain.signingKey, message.signed, message.signature)))
    throw new E2eeError('bad_signature', 'the message is not signed by its chain');

  let { iteration, chainKey } = chain;
  let skipped = chain.skipped;
  let seed;
  if (message.iteration < iteration) {
    seed = skipped.find((one) => one.iteration === message.iteration)?.seed;
    if (!seed) throw new E2eeError('repeated', `iteration ${message.iteration} was used already`);
    skipped = skipped.filter((one) => one.iteration !== message.iteration);
  } else {
    const passed = [];
    for (; iteration < message.iteration; iteration++) {
      const { seed: one, next } = await step(chainKey);
      passed.push({ iteration, seed: one });
      chainKey = next;
    }
    ({ seed, next: chainKey } = await step(chainKey));
    iteration++;
    if (passed.length) skipped = [...skipped, ...passed].slice(-MAX_SKIPPED);
  }

  const { iv, key } = await messageKey(seed, 'decrypt');
  try {
    const plain = new Uint8Array(await crypto.subtle.decrypt({ name: 'AES-CBC', iv }, key, copy(message.ciphertext)));
    return { plain, chain: { ...chain, iteration, chainKey, skipped } };
  } catch {
    throw new E2eeError('cannot_open', 'the message does not decrypt');
  }
}
