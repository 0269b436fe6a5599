/** Receiving keys and requests for keys: `new_keys` events. */
import { copy, equal, fromBase64, toHex } from './bytes.js';
import { chainOf, decrypt } from './crypto/chain.js';
import { E2eeError, isCode } from './errors.js';
import { readEnvelope, readPairwise } from './formats/envelope.js';
import { earlierSecret, readRecord } from './formats/records.js';
import { readSkdm } from './formats/sender-key.js';
import { checkHead } from './heads.js';
import { readProof } from './hpke-delivery.js';
import { giveToNewcomers } from './newcomers.js';
import { onHistory, onKeys, onRequest } from './receiver.js';
import { findDevice } from './roster.js';
import {
  enqueue,
  getSecret,
  givenKey,
  loadGroup,
  loadRecords,
  loadRoster,
  nameOf,
  newKey,
  outbox,
  putSecret,
  refold,
  stopSending,
  warn,
} from './state.js';
import { ordered } from './unit.js';

/** @import { Bytes } from './bytes.js' */
/** @import { Chain } from './crypto/chain.js' */
/** @import { Address, History, Keys, Pairwise, Request } from './formats/envelope.js' */
/** @import { SenderKeyMessage } from './formats/sender-key.js' */
/** @import { Waiting } from './contents.js' */
/** @import { Opened } from './ports.js' */
/** @import { Context, LogEvent } from './state.js' */
/** @import { Unit } from './unit.js' */

/** @typedef {(unit: Unit, cx: Context, group: string, distribution: string) => Promise<void>} ReadWaiting */
/** @typedef {(unit: Unit, cx: Context, row: Waiting, past: {decrypt: (message: SenderKeyMessage) => Promise<Bytes>, user: string, device: number, via: string | null}) => Promise<boolean>} ReadScratch */
/** @typedef {{group: string, user: string, device: number, skdm: Bytes, chain: Chain, via: string | null}} SharedChain */

/** Another device of the owner answers a request only when the owner's did not within this time, in milliseconds. */
const OTHERS_ANSWER_MS = 10_000;
/** Answers to one device for one chain: as many as it asks for by itself. */
const MAX_ANSWERS = 4;

/**
 * @param {Unit} unit
 * @param {Context} cx
 * @param {LogEvent} event A `new_keys`.
 * @param {ReadWaiting} readWaiting
 */
export async function takeKeys(unit, cx, event, readWaiting) {
  const group = event.group_id;
  const author = String(event.data.sender_id);
  try {
    const { keys, request } = readEnvelope(fromBase64(String(event.data.encrypted_envelope)));
    if (request) await takeRequest(unit, cx, event, author, request);
    if (!keys) return;
    await cancelAnswers(unit, group, { user: author, device: keys.device }, keys);
    await openKeys(unit, cx, event, { user: author, device: keys.device }, keys, readWaiting);
  } catch (error) {
    if (!(error instanceof E2eeError) && !(error instanceof RangeError)) throw error;
    warn(unit, cx, { group, seq: event.seq, code: 'unreadable_keys', user: author, device: 0, details: {} });
  }
}

/**
 * @param {Unit} unit
 * @param {Context} cx
 * @param {LogEvent} event
 * @param {Address} from
 * @param {Keys} keys
 * @param {ReadWaiting} readWaiting
 */
async function openKeys(unit, cx, event, from, keys, readWaiting) {
  const { me, ratchet } = cx;
  const group = event.group_id;
  const mine = keys.deliveries.filter(({ user, device }) => user === me.user && device === me.device);
  if (mine.length === 0 || nameOf(from) === nameOf(me)) return;
  const device = findDevice(await loadRoster(unit, group), from.user, from.device);
  /** @param {string} code */
  const hold = (code) => {
    unit.put('waiting', `${group}/${ordered(event.seq)}`, { seq: event.seq, held: event });
    warn(unit, cx, { group, seq: event.seq, code, ...from, details: {} });
  };
  if (!device) return hold('unknown_device');
  for (const delivery of mine) {
    // A one-time key is used only when the delivery is of the identity that the roster has.
    const trial = unit.fork();
    /** @type {Opened} */
    let opened;
    try {
      opened = await ratchet.open(trial, { group, from, to: me, identity: device.identity }, delivery);
    } catch (error) {
      if (isCode(error, 'bad_key')) return hold('identity_differs');
      if (!(error instanceof E2eeError)) throw error;
      warn(unit, cx, { group, seq: event.seq, code: 'unreadable_keys', ...from, details: { reason: error.code } });
      continue;
    }
    unit.merge(trial);
    const pairwise = readPairwise(opened.pairwise);
    if (pairwise.group !== group) warn(unit, cx, { group, seq: event.seq, code: 'misplaced', ...from, details: {} });
    else await takePairwise(unit, cx, event, from, pairwise, opened, readWaiting);
  }
}

/**
 * The roster has changed: give newcomers what was kept for them, and try held keys again.
 *
 * @param {Unit} unit
 * @param {Context} cx
 * @param {string} group
 * @param {ReadWaiting} readWaiting
 */
export async function followRoster(unit, cx, group, readWaiting) {
  await giveToNewcomers(unit, cx, group);
  for (const [key, row] of await unit.list('waiting', `${group}/`)) {
    if (!row.held) continue;
    unit.delete('waiting', key);
    await takeKeys(unit, cx, row.held, readWaiting);
  }
}

/**
 * @param {Unit} unit
 * @param {Context} cx
 * @param {LogEvent} event
 * @param {Address} from
 * @param {Pairwise} pairwise
 * @param {Opened} opened
 * @param {ReadWaiting} readWaiting
 */
async function takePairwise(unit, cx, event, from, pairwise, opened, readWaiting) {
  const group = event.group_id;
  if (pairwise.headSeq !== undefined && pairwise.headHash !== undefined) {
    const fork = await checkHead(unit, group, pairwise.headSeq, pairwise.headHash, from.user);
    if (fork) await stopSending(unit, cx, group, fork);
  }
  if (pairwise.secret && pairwise.secretNumber !== undefined)
    await takeSecret(unit, cx, group, pairwise.secretNumber, pairwise.secret, readWaiting);
  if (pairwise.skdm) await takeSkdm(unit, cx, event, from, pairwise, opened, readWaiting);
  for (const history of pairwise.history) await takeHistory(unit, cx, event, from, history, readWaiting);
}

/**
 * @param {Unit} unit
 * @param {Context} cx
 * @param {LogEvent} event
 * @param {Address} from
 * @param {Pairwise} pairwise
 * @param {Opened} opened
 * @param {ReadWaiting} readWaiting
 */
async function takeSkdm(unit, cx, event, from, { epoch, skdm: given, shareable, history }, { proof, proofKeyId }, readWaiting) {
  const group = event.group_id;
  const bytes = /** @type {Bytes} */ (given);
  const skdm = readSkdm(bytes);
  const id = toHex(skdm.distribution);
  const pinned = await unit.get('distributions', id);
  const row = onKeys(pinned, { ...from, group });
  if (row.does === 'warn')
    return warn(unit, cx, { group, seq: event.seq, code: /** @type {string} */ (row.warning), ...from, details: {} });
  if (row.does === 'ignore') {
    // The owner gives an earlier beginning: what stands before the first one is read beside the chain, which stays as it is.
    if (skdm.iteration < pinned.first) await shareChain(unit, group, id, { ...from, skdm: bytes, via: null });
    return readWaiting(unit, cx, group, id);
  }
  await cx.ratchet.learn(unit, from, bytes);
  // A Signed that carries history of others is no proof to pass on: it would share more than this chain.
  const shown = proof && history.length === 0 ? { proof, proofKeyId } : {};
  unit.put('distributions', id, { group, ...from, first: skdm.iteration, last: skdm.iteration, epoch, skdm: bytes, shareable, ...shown });
  await readWaiting(unit, cx, group, id);
}

/**
 * @param {Unit} unit
 * @param {Context} cx
 * @param {string} group
 * @param {number} number
 * @param {Bytes} secret
 * @param {ReadWaiting} readWaiting
 */
async function takeSecret(unit, cx, group, number, secret, readWaiting) {
  if (await getSecret(unit, group, number)) return;
  // The record of the secret seals the one before it, so that a wrong secret is detected.
  for (const { bytes } of await loadRecords(unit, group)) {
    let body;
    try {
      ({ body } = readRecord(group, bytes));
    } catch {
      continue;
    }
    if (body.kind !== 'secret' || body.number !== number) continue;
    const earlier = await earlierSecret(group, secret, body.earlier);
    const known = await getSecret(unit, group, number - 1);
    if (!earlier || (known && !equal(earlier, known))) continue;
    putSecret(unit, group, number, secret);
    await refold(unit, group);
    return followRoster(unit, cx, group, readWaiting);
  }
}

/**
 * @param {Unit} unit
 * @param {Context} cx
 * @param {LogEvent} event
 * @param {Address} from
 * @param {History} history
 * @param {ReadWaiting} readWaiting
 */
async function takeHistory(unit, cx, event, from, { user, device, skdm: bytes, proof, proofKeyId }, readWaiting) {
  const group = event.group_id;
  const skdm = readSkdm(bytes);
  const id = toHex(skdm.distribution);
  const { inviter } = await loadGroup(unit, group);
  const trusted =
    from.user === cx.me.user || from.user === inviter || (await unit.get('identities', `verified/${from.user}`)) !== undefined;
  const row = onHistory((await unit.get('distributions', id)) !== undefined, trusted);
  if (row.does === 'warn')
    return warn(unit, cx, { group, seq: event.seq, code: /** @type {string} */ (row.warning), ...from, details: {} });
  let via = /** @type {string | null} */ (from.user);
  const owner = findDevice(await loadRoster(unit, group), user, device);
  if (owner && proof && proofKeyId !== undefined) {
    const shown = await readProof({ group, from: { user, device }, to: from, identity: owner.identity }, proof, proofKeyId);
    const own = shown && readPairwise(shown).skdm;
    if (own && equal(own, bytes)) via = null;
  }
  await shareChain(unit, group, id, { user, device, skdm: bytes, via });
  await readWaiting(unit, cx, group, id);
}

/**
 * Keep a chain for reading the past; of several beginnings the earliest counts.
 *
 * @param {Unit} unit
 * @param {string} group
 * @param {string} id
 * @param {Omit<SharedChain, 'chain' | 'group'>} shared
 */
async function shareChain(unit, group, id, shared) {
  const chain = chainOf(readSkdm(shared.skdm));
  const key = `history/${group}/${id}/${shared.user}/${shared.device}`;
  const known = /** @type {SharedChain | undefined} */ (await unit.get('distributions', key));
  if (known && readSkdm(known.skdm).iteration <= chain.iteration && (known.via === null || shared.via !== null)) return;
  unit.put('distributions', key, { group, ...shared, chain });
}

/**
 * Read waiting events of a distribution with chains that were shared.
 *
 * @param {Unit} unit
 * @param {Context} cx
 * @param {string} group
 * @param {string} id
 * @param {ReadScratch} readScratch
 */
export async function readPast(unit, cx, group, id, readScratch) {
  for (const [key, shared] of /** @type {[string, SharedChain][]} */ (await unit.list('distributions', `history/${group}/${id}/`))) {
    const { user, device, via } = shared;
    for (const [at, row] of /** @type {[string, Waiting][]} */ (await unit.list('waiting', `${group}/`))) {
      if (!row.event || row.distribution !== id) continue;
      let chain = shared.chain;
      /** @param {SenderKeyMessage} message */
      const read = async (message) => {
        const found = await decrypt(chain, message);
        chain = found.chain;
        return found.plain;
      };
      if (!(await readScratch(unit, cx, row, { decrypt: read, user, device, via }))) continue;
      shared.chain = chain;
      unit.put('distributions', key, shared);
      unit.delete('waiting', at);
    }
  }
}

/**
 * A device asks for a chain.
 *
 * @param {Unit} unit
 * @param {Context} cx
 * @param {LogEvent} event
 * @param {string} author
 * @param {Request} request
 */
async function takeRequest(unit, cx, event, author, { device, distribution }) {
  const group = event.group_id;
  const id = toHex(distribution);
  const asker = { user: author, device };
  const pinned = await unit.get('distributions', id);
  if (!pinned || pinned.group !== group || pinned.user !== cx.me.user || nameOf(asker) === nameOf(cx.me)) return;
  const found = findDevice(await loadRoster(unit, group), author, device);
  const given = pinned.own ? await unit.get('given', givenKey(id, asker)) : undefined;
  const wasGiven = found !== undefined && given?.skdm !== undefined && given.identity === toHex(found.identity);
  const row = onRequest({
    inRoster: found !== undefined,
    given: wasGiven,
    since: found?.since ?? 0,
    madeEpoch: pinned.madeEpoch ?? pinned.epoch,
  });
  if (row.does === 'warn')
    return warn(unit, cx, { group, seq: event.seq, code: /** @type {string} */ (row.warning), ...asker, details: {} });
  if (row.does !== 'answer' || !found) return;
  const count = (await unit.get('given', `answers/${givenKey(id, asker)}`)) ?? 0;
  if (count >= MAX_ANSWERS) return;
  unit.put('given', `answers/${givenKey(id, asker)}`, count + 1);
  const base = /** @type {const} */ ({
    kind: 'deliver',
    id: newKey(),
    to: asker,
    identity: toHex(found.identity),
    secret: true,
    answers: id,
  });
  // The owner's device answers; another device of the same person only if that one did not.
  if (pinned.own) await enqueue(unit, group, { ...base, skdm: wasGiven ? given.skdm : pinned.firstSkdm, history: [], notBefore: cx.now() });
  else await enqueue(unit, group, { ...base, history: [historyOf(pinned)], notBefore: cx.now() + OTHERS_ANSWER_MS });
}

/** @param {any} pinned A row of `distributions` of another device. @returns {History} */
// biome-ignore format: a list is read across the line
export const historyOf = ({ user, device, skdm, proof, proofKeyId }) => ({
  user, device, skdm, ...(proof && { proof: copy(proof), proofKeyId }),
});

/**
 * Somebody's keys for a device went out: answers of ours that wait for that are not needed.
 *
 * @param {Unit} unit
 * @param {string} group
 * @param {Address} from
 * @param {Keys} keys
 */
async function cancelAnswers(unit, group, from, keys) {
  for (const [key, row] of await unit.list('outbox', outbox.service(group))) {
    if (row.kind !== 'deliver' || !row.answers || row.history.length === 0) continue;
    const owner = row.history[0];
    if (owner.user === from.user && keys.deliveries.some((one) => nameOf(one) === nameOf(row.to))) unit.delete('outbox', key);
  }
}
