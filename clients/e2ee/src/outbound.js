/** Sending: runs the sender's machine of a group, one input after the other, until there is nothing to do. */
import { copy, fromHex, random, toBase64, toHex } from './bytes.js';
import { MAX_EPOCH_CHANGES, claim, headOfPosition, ignoreConflict, pairwiseOf, serve } from './delivering.js';
import { E2eeError, isCode } from './errors.js';
import { writeContent } from './formats/content.js';
import { writeEnvelope, writePairwise } from './formats/envelope.js';
import { readSenderKeyMessage } from './formats/sender-key.js';
import { isKeptForSending, keepForNewcomers } from './newcomers.js';
import { MAX_DELIVERIES, missingDevices, nextInput, senderRow } from './sender.js';
// biome-ignore format: a list is read across the line
import {
  dropChain, givenKey, loadGiven, loadGroup, loadOwn, loadView, nameOf, newKey, outbox, ownKey, warn,
} from './state.js';
import { transact } from './unit.js';

/** @import { Bytes } from './bytes.js' */
/** @import { SenderRow, SenderView, ViewDevice } from './sender.js' */
/** @import { Context, DraftRow, OwnChain } from './state.js' */
/** @import { Unit } from './unit.js' */

/** @typedef {{does: 'done'} | {does: 'again'} | {does: 'serve'} | {does: 'claim', devices: ViewDevice[], epoch: number} | {does: 'post_keys', own: OwnChain} | {does: 'post', key: string, row: DraftRow}} Step */

/**
 * Send everything that waits in a group: records, requests and answers first, then drafts in their order.
 *
 * @param {Context} cx
 * @param {string} group
 * @returns {Promise<void>} Resolves when everything was accepted, or must wait.
 * @throws {E2eeError} `epoch_changed` when the log does not reach the epoch that the server names; `stopped` when drafts wait for a person's
 *   decision; what the relay rejects with. The outbox keeps what was not accepted.
 */
export async function flush(cx, group) {
  await serve(cx, group);
  let changes = 0;
  for (;;) {
    const step = await transact(cx.store, (unit) => turn(unit, cx, group), { durable: true });
    if (step.does === 'done') return;
    if (step.does === 'again') continue;
    try {
      if (step.does === 'serve') await serve(cx, group);
      else if (step.does === 'claim') await give(cx, group, step.devices, step.epoch);
      else if (step.does === 'post_keys') await postKeys(cx, group, step.own);
      else await postDraft(cx, group, step.key, step.row);
    } catch (error) {
      if (!isCode(error, 'epoch_changed') || ++changes > MAX_EPOCH_CHANGES) throw error;
      await catchUp(cx, group, error.details);
    }
  }
}

/** @param {Context} cx @param {string} group @param {Record<string, unknown>} details Of `epoch_changed`. */
async function catchUp(cx, group, { epoch }) {
  await transact(cx.store, async (unit) => {
    const own = await loadOwn(unit, cx, group);
    const row = own.state === 'giving' || own.state === 'ready' ? senderRow(own.state, 'epoch_changed') : null;
    if (row) unit.put('own', ownKey(cx, group), { ...own, state: row.to, giving: null });
  });
  await cx.relay.catchUp(group, Number(epoch));
}

/**
 * Take the machine's next input, as far as no answer of the server is needed.
 *
 * @param {Unit} unit
 * @param {Context} cx
 * @param {string} group
 * @returns {Promise<Step>}
 */
async function turn(unit, cx, group) {
  const own = await loadOwn(unit, cx, group);
  const view = await loadView(unit, cx, group);
  const drafts = await oldestDraft(unit, cx, group);
  const { stopped } = await loadGroup(unit, group);
  if (stopped && drafts.length)
    throw new E2eeError('stopped', `nothing is sent in ${group}: ${stopped.code} at ${stopped.seq}; a person must decide`, { ...stopped });
  const given = own.distribution ? await loadGiven(unit, toHex(own.distribution)) : [];
  const { state, epoch, count, madeAt } = own;
  const facts = { state, epoch, count, madeAt, given, drafts: drafts.length > 0 };
  const on = nextInput(facts, view, cx.now());
  if (on === null) return { does: 'done' };
  const row = senderRow(own.state, on);
  const key = ownKey(cx, group);
  switch (row.does) {
    case 'make':
      await makeChain(unit, cx, group, view, row);
      return { does: 'again' };
    case 'drop':
      await dropChain(unit, cx, key);
      return { does: 'again' };
    case 'follow':
      unit.put('own', key, { ...own, state: row.to, epoch: view.epoch });
      return { does: 'again' };
    case 'catch_up':
      unit.put('own', key, { ...own, state: row.to, epoch: view.epoch, giving: null });
      return { does: 'again' };
    case 'give':
      return { does: 'claim', devices: missingDevices(view, facts).slice(0, MAX_DELIVERIES), epoch: view.epoch };
    case 'repost':
      return { does: 'post_keys', own };
    case 'seal': {
      if (await isKeptForSending(unit, group)) return { does: 'serve' };
      const [at, draft] = /** @type {[string, DraftRow]} */ (drafts[0]);
      return { does: 'post', key: at, row: await sealDraft(unit, cx, group, own, at, draft) };
    }
    case 'record':
      throw new E2eeError('stopped', 'an answer is recorded where it arrives');
  }
}

/** @param {Unit} unit @param {Context} cx @param {string} group @returns {Promise<[string, DraftRow][]>} The oldest draft of this chain, if any. */
const oldestDraft = (unit, cx, group) => unit.list('outbox', outbox.drafts(group, cx.chainName), 1);

/** @param {Unit} unit @param {Context} cx @param {string} group @param {SenderView} view @param {SenderRow} row */
async function makeChain(unit, cx, group, view, row) {
  const distribution = random(16);
  await cx.ratchet.newChain(unit, cx.me, distribution);
  const firstSkdm = await cx.ratchet.skdm(unit, cx.me, distribution);
  const { epoch } = view;
  unit.put('own', ownKey(cx, group), {
    state: row.to,
    distribution,
    epoch,
    madeEpoch: epoch,
    count: 0,
    madeAt: cx.now(),
    firstSkdm,
    giving: null,
  });
  unit.put('distributions', toHex(distribution), {
    own: true,
    group,
    ...cx.me,
    chainName: cx.chainName,
    firstSkdm,
    madeEpoch: epoch,
    first: 0,
    last: 0,
  });
  await keepForNewcomers(unit, cx, group, distribution, firstSkdm);
}

/**
 * Seal the chain for devices and store the `new_keys`; the next turn posts it.
 *
 * @param {Context} cx
 * @param {string} group
 * @param {ViewDevice[]} devices
 * @param {number} epoch
 */
async function give(cx, group, devices, epoch) {
  const bundles = await claim(cx, group, devices);
  await transact(
    cx.store,
    async (unit) => {
      const own = await loadOwn(unit, cx, group);
      const view = await loadView(unit, cx, group);
      // The log moved while the keys were claimed: decide again.
      if (!own.distribution || view.epoch !== epoch) return;
      const skdm = await cx.ratchet.skdm(unit, cx.me, own.distribution);
      const pairwise = writePairwise({ ...(await pairwiseOf(unit, group)), skdm });
      const deliveries = [];
      const served = [];
      for (const to of devices) {
        const { user, device, identity } = to;
        const row = { user, device, identity, skdm };
        try {
          const way = { group, from: cx.me, to: { user, device }, identity: fromHex(identity) };
          deliveries.push({ user, device, ...(await cx.ratchet.seal(unit, way, bundles.get(nameOf(to)) ?? null, pairwise)) });
          served.push(row);
          // Until the answer is known the device counts as one that may have the chain: should it leave, the chain goes.
          unit.put('given', givenKey(toHex(own.distribution), to), { ...row, maybe: true });
        } catch (error) {
          if (!(error instanceof E2eeError)) throw error;
          // Not given, and not tried again with this chain: a directory that lies about one device must not stop the group.
          unit.put('given', givenKey(toHex(own.distribution), to), { user, device, identity, refused: error.code });
          warn(unit, cx, { group, seq: epoch, code: 'bad_bundle', user, device, details: { reason: error.code } });
        }
      }
      if (served.length === 0) return;
      const envelope = toBase64(writeEnvelope({ keys: { device: cx.me.device, epoch, deliveries } }));
      const { to } = senderRow(own.state, 'missing');
      unit.put('own', ownKey(cx, group), { ...own, state: to, epoch, giving: { key: newKey(), envelope, devices: served } });
    },
    { durable: true },
  );
}

/** @param {Context} cx @param {string} group @param {OwnChain} own */
async function postKeys(cx, group, { giving, distribution, epoch }) {
  if (!giving || !distribution) throw new E2eeError('stopped', 'a `new_keys` that was not stored cannot be posted');
  const { key, envelope, devices } = giving;
  await ignoreConflict(cx.relay.post(group, 'new_keys', { encrypted_envelope: envelope }, { key, ifEpoch: epoch }));
  await transact(cx.store, async (unit) => {
    const own = await loadOwn(unit, cx, group);
    if (own.giving?.key !== key) return;
    for (const row of devices) unit.put('given', givenKey(toHex(distribution), row), row);
    unit.put('own', ownKey(cx, group), { ...own, state: senderRow(own.state, 'accepted').to, giving: null });
  });
}

/**
 * Seal a draft with the chain's next keys, and keep the bytes with the row. A row that is sealed for this chain and epoch is posted as it is.
 *
 * @param {Unit} unit
 * @param {Context} cx
 * @param {string} group
 * @param {OwnChain} own
 * @param {string} key
 * @param {DraftRow} row
 * @returns {Promise<DraftRow>}
 */
async function sealDraft(unit, cx, group, own, key, row) {
  const distribution = /** @type {Bytes} */ (own.distribution);
  const id = toHex(distribution);
  if (row.sealed?.distribution === id && row.sealed.epoch === own.epoch) return row;
  const { position } = await loadGroup(unit, group);
  /** @type {Record<string, string>} */
  const body = {};
  let iteration = 0;
  for (const { field, kind, context, body: text, nonce } of row.parts) {
    const content = writeContent({ kind, group, context, at: row.at, body: text, ...headOfPosition(position), nonce });
    const message = await cx.ratchet.encrypt(unit, cx.me, distribution, content);
    if (Object.keys(body).length === 0) iteration = readSenderKeyMessage(message).iteration;
    body[field] = toBase64(writeEnvelope({ content: copy(message) }));
  }
  const tried = row.sealed ? [...(row.tried ?? []), row.sealed] : row.tried;
  const sealed = { ...row, sealed: { distribution: id, iteration, epoch: own.epoch, body }, ...(tried && { tried }) };
  unit.put('outbox', key, sealed);
  unit.put('own', ownKey(cx, group), { ...own, count: iteration + row.parts.length });
  return sealed;
}

/** @param {Context} cx @param {string} group @param {string} key @param {DraftRow} row */
async function postDraft(cx, group, key, row) {
  const sealed = /** @type {NonNullable<DraftRow['sealed']>} */ (row.sealed);
  const posted = await ignoreConflict(
    cx.relay.post(group, row.type, { ...row.plain, ...sealed.body }, { key: row.id, ifEpoch: sealed.epoch }),
  );
  await transact(cx.store, async (unit) => {
    const present = /** @type {DraftRow | undefined} */ (await unit.get('outbox', key));
    // The event may have come back before the answer did.
    if (!present) return;
    unit.delete('outbox', key);
    // Under this key the server holds another body: an earlier seal of the draft was accepted, and its answer was lost.
    const sent = posted === null ? [...(row.tried ?? []), sealed] : [sealed];
    for (const one of sent) unit.put('outbox', outbox.postedKey(group, one), { ...present, sealed: one, tried: sent, posted: posted ?? 0 });
  });
}
