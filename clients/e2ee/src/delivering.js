/** Sending of what is no draft: records, key requests, and pairwise messages to single devices. */
import { fromBase64, fromHex, toBase64 } from './bytes.js';
import { E2eeError, isCode } from './errors.js';
import { writeEnvelope, writePairwise } from './formats/envelope.js';
import { HEAD_BYTES } from './heads.js';
import { getSecret, loadGroup, loadRoster, loadView, nameOf, outbox, warn } from './state.js';
import { transact } from './unit.js';

/** @import { Pairwise } from './formats/envelope.js' */
/** @import { Bundle } from './ports.js' */
/** @import { ViewDevice } from './sender.js' */
/** @import { Context, DeliverRow, OutboxRow } from './state.js' */
/** @import { Unit } from './unit.js' */

/** Refusals for a changed epoch that one post or one `flush` answers; then it ends with `epoch_changed`. */
export const MAX_EPOCH_CHANGES = 32;

/** @param {Unit} unit @param {string} group @returns {Promise<Pairwise>} What every pairwise message of now says. */
export async function pairwiseOf(unit, group) {
  const { epoch, position } = await loadGroup(unit, group);
  const { secretNumber } = await loadRoster(unit, group);
  const secret = secretNumber > 0 ? await getSecret(unit, group, secretNumber) : undefined;
  return { group, epoch, ...headOfPosition(position), history: [], ...(secret && { secret, secretNumber }), shareable: true };
}

/** @param {{seq: number, hash: string}} position */
export const headOfPosition = ({ seq, hash }) => (hash === '' ? {} : { headSeq: seq, headHash: fromBase64(hash).slice(0, HEAD_BYTES) });

/**
 * Claim what the ratchet has no session for.
 *
 * @param {Context} cx
 * @param {string} group
 * @param {ViewDevice[]} devices
 * @returns {Promise<Map<string, Bundle>>}
 */
export async function claim(cx, group, devices) {
  const wanted = await transact(cx.store, async (unit) => {
    const found = [];
    for (const { user, device, suites } of devices) {
      const suite = await cx.ratchet.claimSuite(unit, { user, device, suites });
      if (suite !== null) found.push({ user, device, suite });
    }
    return found;
  });
  const bundles = wanted.length ? await cx.relay.claim(group, wanted) : [];
  return new Map(bundles.map((bundle) => [nameOf(bundle), bundle]));
}

/** @param {unknown} error @returns {boolean} Whether the SDK says that the same request may succeed later. */
export const isRetryable = (error) => /** @type {any} */ (error)?.retryable === true;

/**
 * @param {unknown} error What ended a `flush`.
 * @returns {boolean} Whether the rest stays in the outbox for another one: the server cannot be reached, a person decides first, or the log has not reached
 *   the epoch that the server names.
 */
export const isLeftForLater = (error) => isRetryable(error) || isCode(error, 'stopped') || isCode(error, 'epoch_changed');

/** @param {Promise<{seq: number}>} posted @returns {Promise<number | null>} Null when the server has another body under the key: our own earlier attempt. */
export async function ignoreConflict(posted) {
  try {
    return (await posted).seq;
  } catch (error) {
    if (isCode(error, 'conflict')) return null;
    throw error;
  }
}

/**
 * Send records, requests and pairwise messages.
 *
 * @param {Context} cx
 * @param {string} group
 */
export async function serve(cx, group) {
  const rows = await transact(cx.store, (unit) => unit.list('outbox', outbox.service(group)));
  for (const [key, row] of /** @type {[string, OutboxRow][]} */ (rows)) {
    if (row.kind === 'draft') continue;
    if (row.kind === 'deliver') {
      if (row.notBefore <= cx.now()) await deliver(cx, group, key);
      continue;
    }
    const [type, body] =
      row.kind === 'record'
        ? ['new_record', { record: toBase64(row.record) }]
        : [
            'new_keys',
            { encrypted_envelope: toBase64(writeEnvelope({ request: { device: cx.me.device, distribution: row.distribution } })) },
          ];
    await ignoreConflict(cx.relay.post(group, type, body, { key: row.id }));
    await transact(cx.store, async (unit) => unit.delete('outbox', key));
  }
}

/**
 * Send one pairwise message, if its device is still in the view with that identity.
 *
 * @param {Context} cx
 * @param {string} group
 * @param {string} key
 */
async function deliver(cx, group, key) {
  for (let changes = 0; ; changes++) {
    const found = await transact(cx.store, async (unit) => {
      const row = /** @type {DeliverRow | undefined} */ (await unit.get('outbox', key));
      const view = await loadView(unit, cx, group);
      const target = row && view.devices.find((one) => nameOf(one) === nameOf(row.to) && one.identity === row.identity);
      if (row && !target) unit.delete('outbox', key);
      // A device that asks could not open what it was given: a session that no longer fits must not transport the answer.
      if (row?.answers && target && !row.sealed) await cx.ratchet.renewSession(unit, row.to);
      return target && { row, target, epoch: view.epoch };
    });
    if (!found) return;
    const bundles = found.row.sealed ? new Map() : await claim(cx, group, [found.target]);
    const sealed = await transact(cx.store, (unit) => sealDelivery(unit, cx, group, key, found.target, bundles), { durable: true });
    if (!sealed) return;
    try {
      await ignoreConflict(
        cx.relay.post(group, 'new_keys', { encrypted_envelope: sealed.envelope }, { key: found.row.id, ifEpoch: sealed.epoch }),
      );
      return await transact(cx.store, async (unit) => unit.delete('outbox', key));
    } catch (error) {
      if (!isCode(error, 'epoch_changed') || changes >= MAX_EPOCH_CHANGES) throw error;
      await transact(cx.store, async (unit) => {
        const { sealed: _, ...rest } = /** @type {DeliverRow} */ (await unit.get('outbox', key));
        unit.put('outbox', key, rest);
      });
      await cx.relay.catchUp(group, Number(error.details.epoch));
    }
  }
}

/**
 * @param {Unit} unit
 * @param {Context} cx
 * @param {string} group
 * @param {string} key
 * @param {ViewDevice} target
 * @param {Map<string, Bundle>} bundles
 * @returns {Promise<DeliverRow['sealed'] | null>} Null when it cannot be sealed: the row is gone, with a warning.
 */
async function sealDelivery(unit, cx, group, key, target, bundles) {
  const row = /** @type {DeliverRow | undefined} */ (await unit.get('outbox', key));
  if (!row) return null;
  if (row.sealed) return row.sealed;
  const { user, device, identity } = target;
  const base = await pairwiseOf(unit, group);
  const pairwise = writePairwise({ ...base, ...(row.skdm && { skdm: row.skdm }), history: row.history });
  try {
    const way = { group, from: cx.me, to: { user, device }, identity: fromHex(identity) };
    const delivery = { user, device, ...(await cx.ratchet.seal(unit, way, bundles.get(nameOf(target)) ?? null, pairwise)) };
    const sealed = {
      envelope: toBase64(writeEnvelope({ keys: { device: cx.me.device, epoch: base.epoch, deliveries: [delivery] } })),
      epoch: base.epoch,
    };
    unit.put('outbox', key, { ...row, sealed });
    return sealed;
  } catch (error) {
    if (!(error instanceof E2eeError)) throw error;
    unit.delete('outbox', key);
    warn(unit, cx, { group, seq: base.epoch, code: 'bad_bundle', user, device, details: { reason: error.code } });
    return null;
  }
}
