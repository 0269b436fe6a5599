/**
 * Measure the encryption: its steps in memory, and members on a relay in memory. Runs in Node and in a page; figures-table.js compares them.
 *
 * A clock returns milliseconds. The one that is used is the processor's, of all threads and processes: other work on the machine is not in it.
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
import { FakeRelay, enter, say } from '../test/relay.js';

/** @typedef {() => number | Promise<number>} Clock In milliseconds. */
/** @typedef {Record<'encrypt' | 'decrypt' | 'seal' | 'compare' | 'envelope' | 'distribution', number>} StepFigures */
/** @typedef {Record<'send' | 'receive' | 'renew' | 'removal', number>} GroupFigures */
/** @typedef {{steps: StepFigures, memory: GroupFigures, stored: GroupFigures | null}} Figures Of one program. */

const TEXT = 'A short text of a family.';
const GROUP = uuidText(random(16));

/** @param {Clock} clock @param {() => Promise<unknown>} work @returns {Promise<number>} Milliseconds. */
async function timed(clock, work) {
  const start = await clock();
  await work();
  return (await clock()) - start;
}

/**
 * Measure the steps in memory: the private keys are WebCrypto's and cannot be exported.
 *
 * @param {number} rounds Texts.
 * @param {Clock} clock
 * @returns {Promise<StepFigures>} Milliseconds of one step;
 *   `envelope` and `distribution` are bytes of one message.
 */
export async function figures(rounds, clock) {
  /** @param {number} times @param {(round: number) => Promise<unknown>} work @returns {Promise<number>} Milliseconds of one. */
  async function each(times, work) {
    const all = await timed(clock, async () => {
      for (let round = 0; round < times; round++) await work(round);
    });
    return all / times;
  }
  const signing = await generateSigningKey(false);
  const chain = chainOf({
    distribution: random(16),
    chain: 2 ** 31 - 1,
    iteration: 0,
    chainKey: random(32),
    signingKey: toCurve(signing.edwards),
  });
  const content = {
    kind: 1,
    group: GROUP,
    context: random(16),
    at: Date.now(),
    body: utf8(TEXT),
    headSeq: 4711,
    headHash: random(16),
    nonce: random(16),
  };
  /** @type {import('../src/bytes.js').Bytes[]} */
  const sent = [];
  let [sending, reading] = [chain, chain];
  const encryption = await each(rounds, async () => {
    const made = await encrypt(sending, signing, writeContent(content));
    sending = made.chain;
    sent.push(made.message);
  });
  const decryption = await each(rounds, async (round) => {
    reading = (await decrypt(reading, /** @type {Uint8Array} */ (sent[round]))).chain;
  });
  const key = await fromSeed(random(32));
  const sealing = await each(Math.max(1, rounds / 10), () => seal(key.public, random(66), random(250)));
  const person = () => ({ user: uuidText(random(16)), identities: [toCurve(signing.edwards)] });
  const comparing = await each(1, () => safetyNumber(person(), person()));
  // biome-ignore format: a list is read across the line
  return {
    encrypt: encryption, decrypt: decryption, seal: sealing, compare: comparing,
    envelope: writeEnvelope({ content: /** @type {any} */ (sent[0]) }).length, distribution: writeSkdm(chain).length,
  };
}

/** A group of `members` people and one more; the first two have the stores and process everything, the others only come in. */
async function grown(members, stores) {
  const relay = new FakeRelay();
  const devices = [];
  for (let at = 0; at <= members; at++) devices.push(await relay.device(uuidText(random(16)), 1, stores[at] ? { store: stores[at] } : {}));
  const [ada, ben, ...others] = devices;
  const group = relay.newGroup(ada.me.user);
  await ada.found(group);
  await relay.waitIdle(group, [ada]);
  for (const other of [ben, ...others]) {
    await enter(relay, group, ada, other);
    await relay.deliver(ada, group);
  }
  await relay.waitIdle(group, [ada, ben]);
  return { relay, group, ada, ben, last: others.at(-1).me.user };
}

/**
 * Measure two members of a group: what a text costs, and what a removal costs those that are left.
 *
 * @param {number} members That are left after the removal.
 * @param {number} rounds Texts.
 * @param {any[]} stores Of the two members.
 * @param {Clock} clock
 * @returns {Promise<GroupFigures>} Milliseconds: of one text to draft, seal and post, and to
 *   process; of a new chain for all the others with its first text; and of processing the removal, the new keys and that text.
 */
export async function groupFigures(members, rounds, stores, clock) {
  const { relay, group, ada, ben, last } = await grown(members, stores);
  await say(ada, group, 'x');
  await relay.deliver(ben, group);
  const send = await timed(clock, async () => {
    for (let round = 0; round < rounds; round++) await say(ada, group, TEXT);
  });
  const receive = await timed(clock, () => relay.deliver(ben, group));
  await relay.waitIdle(group, [ada, ben]);
  await ada.revoke(group, last);
  await ada.flush(group);
  relay.leave(group, last);
  await relay.deliver(ada, group);
  const renew = await timed(clock, () => say(ada, group, TEXT));
  const removal = await timed(clock, () => relay.deliver(ben, group));
  return { send: send / rounds, receive: receive / rounds, renew, removal };
}
