/**
 * Print figures of the encryption on this machine: operations per second in memory, and bytes per message.
 *
 * The time is the processor's, of all threads of this process: what else the machine does is not in it.
 */
import { random, utf8, uuidText } from '../src/bytes.js';
import { chainOf, decrypt, encrypt } from '../src/crypto/chain.js';
import { generateSigningKey, toCurve } from '../src/crypto/curve.js';
import { seal } from '../src/crypto/hpke.js';
import { fromSeed } from '../src/crypto/xwing.js';
import { writeContent } from '../src/formats/content.js';
import { writeEnvelope } from '../src/formats/envelope.js';
import { writeSkdm } from '../src/formats/sender-key.js';
import { safetyNumber } from '../src/safety.js';

const GROUP = uuidText(random(16));

/** @returns {number} Milliseconds of processor time. */
export const processor = () => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
};

/** @param {string} what @param {number} ms */
export const print = (what, ms) =>
  console.log(
    `${what.padEnd(44)} ${ms.toFixed(2).padStart(8)} ms ${Math.round(1000 / ms)
      .toString()
      .padStart(8)} /s`,
  );

/** @param {number} [rounds] @param {() => number} [clock] In milliseconds; a page has no processor time. */
export async function figures(rounds = 1000, clock = processor) {
  /** @param {number} times @param {(round: number) => Promise<unknown>} work @returns {Promise<number>} Milliseconds of one. */
  async function each(times, work) {
    const start = clock();
    for (let round = 0; round < times; round++) await work(round);
    return (clock() - start) / times;
  }
  const signing = await generateSigningKey(false);
  const chain = chainOf({
    distribution: random(16),
    chain: 2 ** 31 - 1,
    iteration: 0,
    chainKey: random(32),
    signingKey: toCurve(signing.edwards),
  });
  const content = writeContent({
    kind: 1,
    group: GROUP,
    context: random(16),
    at: Date.now(),
    body: utf8('A short text of a family.'),
    headSeq: 4711,
    headHash: random(16),
    nonce: random(16),
  });
  /** @type {import('../src/bytes.js').Bytes[]} */
  const sent = [];
  let sending = chain;
  let reading = chain;
  const encryption = await each(rounds, async () => {
    const made = await encrypt(sending, signing, content);
    sending = made.chain;
    sent.push(made.message);
  });
  const decryption = await each(rounds, async (round) => {
    reading = (await decrypt(reading, /** @type {Uint8Array} */ (sent[round]))).chain;
  });
  const key = await fromSeed(random(32));
  const sealing = await each(Math.max(1, rounds / 20), () => seal(key.public, random(66), random(250)));
  const person = () => ({ user: uuidText(random(16)), identities: [toCurve(signing.edwards)] });
  const comparing = await each(1, () => safetyNumber(person(), person()));
  const bytes = { envelope: writeEnvelope({ content: /** @type {any} */ (sent[0]) }).length, skdm: writeSkdm(chain).length };
  return { encryption, decryption, sealing, comparing, bytes };
}

/** @param {Awaited<ReturnType<typeof figures>>} measured */
export function show({ encryption, decryption, sealing, comparing, bytes }) {
  print('encrypt a short text', encryption);
  print('decrypt it', decryption);
  print('seal keys for one device (X-Wing)', sealing);
  print('a safety number', comparing);
  print('seal keys for 49 devices, after a removal', 49 * sealing);
  console.log(`${bytes.envelope} bytes: the envelope of a short text; ${bytes.skdm} bytes: a distribution message`);
}

if (globalThis.process?.argv[1]?.endsWith('scripts/figures.js')) show(await figures());
