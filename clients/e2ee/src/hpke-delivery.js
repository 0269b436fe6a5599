/** Suite 16: pairwise deliveries by HPKE, signed by the sender's identity. Every ratchet has it. */
import { concat, copy, equal, random, toHex, u32, utf8 } from './bytes.js';
import { verify } from './crypto/curve.js';
import { open as hpkeOpen, seal as hpkeSeal } from './crypto/hpke.js';
import { ENC_BYTES, fromSeed, generateHandles } from './crypto/xwing.js';
import { E2eeError } from './errors.js';
import { SUITES, deliveryInfo, readSigned, signedBytes, writeSigned } from './formats/envelope.js';
import { ordered } from './unit.js';

/** @import { Bytes } from './bytes.js' */
/** @import { XWingKey } from './crypto/xwing.js' */
/** @import { Delivery } from './formats/envelope.js' */
/** @import { Signer } from './formats/records.js' */
/** @import { Bundle, Opened, SignedKey, Store, Way } from './ports.js' */
/** @import { Unit } from './unit.js' */

const DAY_MS = 24 * 60 * 60 * 1000;
/** A last-resort key is replaced after this, and kept longer, for deliveries that are in transit. */
export const LAST_RESORT_MS = 7 * DAY_MS;
export const LAST_RESORT_KEPT_MS = 30 * DAY_MS;
/** One-time keys that the directory holds for a device. */
export const HPKE_STOCK = 50;

/** @typedef {{id: number, last: boolean, madeAt: number, seed?: Bytes, handles?: XWingKey}} PreKeyRow */

/** @param {number} id */
const rowKey = (id) => `hpke/${ordered(id)}`;

/** @param {number} id @param {Uint8Array} key @returns {Bytes} What the signature of an HPKE pre-key covers. */
export const preKeyBytes = (id, key) => concat(utf8('orbital/2 prekey\0'), u32(id), key);

/** @param {PreKeyRow} row @returns {Promise<XWingKey>} */
const keyOf = async ({ seed, handles }) => (seed ? fromSeed(seed) : /** @type {XWingKey} */ (handles));

/**
 * Make one pre-key and store it.
 *
 * @param {Unit} unit
 * @param {Store['keys']} keys
 * @param {Signer} signer
 * @param {number} now
 * @param {boolean} last
 * @returns {Promise<SignedKey>}
 */
async function makePreKey(unit, keys, signer, now, last) {
  const id = (await unit.get('meta', 'hpke_pre_key')) ?? 1;
  unit.put('meta', 'hpke_pre_key', id + 1);
  const seed = random(32);
  const handles = keys === 'handles' ? await generateHandles() : undefined;
  const key = handles ?? (await fromSeed(seed));
  unit.put('pre_keys', rowKey(id), { id, last, madeAt: now, ...(handles ? { handles } : { seed }) });
  return { id, key: key.public, signature: await signer.sign(preKeyBytes(id, key.public)) };
}

/**
 * Make the HPKE part of a device's published keys.
 *
 * @param {Unit} unit
 * @param {Store['keys']} keys
 * @param {Signer} signer
 * @param {number} now In milliseconds since the Unix epoch.
 * @param {number} wanted One-time keys to make.
 * @returns {Promise<{hpkePreKey?: SignedKey, hpkePreKeys: SignedKey[]}>} The last-resort key is there when it is due.
 */
export async function publishHpke(unit, keys, signer, now, wanted) {
  const rows = /** @type {PreKeyRow[]} */ ((await unit.list('pre_keys', 'hpke/')).map(([, row]) => row)).filter((row) => row.last);
  for (const row of rows) if (now - row.madeAt > LAST_RESORT_KEPT_MS) unit.delete('pre_keys', rowKey(row.id));
  const due = rows.every((row) => now - row.madeAt >= LAST_RESORT_MS);
  const last = due ? await makePreKey(unit, keys, signer, now, true) : undefined;
  const hpkePreKeys = [];
  for (let count = 0; count < wanted; count++) hpkePreKeys.push(await makePreKey(unit, keys, signer, now, false));
  return { ...(last && { hpkePreKey: last }), hpkePreKeys };
}

/**
 * Seal a pairwise message for a device.
 *
 * @param {Signer} signer
 * @param {Way} way
 * @param {Bundle | null} bundle
 * @param {Bytes} pairwise
 * @returns {Promise<Pick<Delivery, 'suite' | 'sealed'>>}
 * @throws {E2eeError} `bad_key` when the bundle is not of the identity that the roster has, `bad_signature`, `not_found` without a bundle.
 */
export async function sealHpke(signer, { group, from, to, identity }, bundle, pairwise) {
  const preKey = bundle?.hpkePreKey;
  if (!bundle || !preKey) throw new E2eeError('not_found', `no HPKE key was given for ${to.user}/${to.device}`);
  if (!equal(bundle.identity, identity))
    throw new E2eeError('bad_key', `the directory gives another identity for ${to.user}/${to.device} than the roster`);
  if (!(await verify(identity, preKeyBytes(preKey.id, preKey.key), preKey.signature)))
    throw new E2eeError('bad_signature', `the pre-key of ${to.user}/${to.device} is not signed by its device`);
  const info = deliveryInfo(group, from, to);
  const signature = await signer.sign(signedBytes(info, preKey.id, pairwise));
  const { enc, ciphertext } = await hpkeSeal(preKey.key, info, writeSigned({ pairwise, identity: signer.publicKey, signature }));
  return { suite: SUITES.hpke, sealed: concat(u32(preKey.id), enc, ciphertext) };
}

/**
 * Open a delivery. A one-time key is deleted with it.
 *
 * @param {Unit} unit
 * @param {Way} way
 * @param {Pick<Delivery, 'sealed'>} delivery
 * @returns {Promise<Opened>}
 * @throws {E2eeError} `cannot_open`, `malformed`, `bad_key` when it is of another identity than the roster has, `bad_signature`.
 */
export async function openHpke(unit, { group, from, to, identity }, { sealed }) {
  if (sealed.length < 4 + ENC_BYTES) throw new E2eeError('malformed', `a delivery of ${sealed.length} bytes`);
  const id = new DataView(sealed.buffer, sealed.byteOffset).getUint32(0);
  const row = /** @type {PreKeyRow | undefined} */ (await unit.get('pre_keys', rowKey(id)));
  if (!row) throw new E2eeError('cannot_open', `pre-key ${id} is not here: it was used, or is of another device`);
  const info = deliveryInfo(group, from, to);
  const plain = await hpkeOpen(await keyOf(row), sealed.subarray(4, 4 + ENC_BYTES), info, copy(sealed.subarray(4 + ENC_BYTES)));
  const signed = readSigned(plain);
  if (!equal(signed.identity, identity))
    throw new E2eeError(
      'bad_key',
      `keys of ${from.user}/${from.device} by identity ${toHex(signed.identity).slice(0, 12)}…, which the roster does not have`,
    );
  if (!(await verify(identity, signedBytes(info, id, signed.pairwise), signed.signature)))
    throw new E2eeError('bad_signature', `keys of ${from.user}/${from.device} are not signed by that device`);
  if (!row.last) unit.delete('pre_keys', rowKey(id));
  return { pairwise: signed.pairwise, proof: plain, proofKeyId: id };
}

/**
 * Verify, for a third device, that an owner gave a chain to the device that passes it on.
 *
 * @param {Way} way From the owner to the passing device; `identity` is the owner's.
 * @param {Bytes} proof A Signed.
 * @param {number} preKeyId
 * @returns {Promise<Bytes | null>} The pairwise message that the owner signed; null when it is not proven.
 */
export async function readProof({ group, from, to, identity }, proof, preKeyId) {
  try {
    const signed = readSigned(proof);
    const proven =
      equal(signed.identity, identity) &&
      (await verify(identity, signedBytes(deliveryInfo(group, from, to), preKeyId, signed.pairwise), signed.signature));
    return proven ? signed.pairwise : null;
  } catch {
    return null;
  }
}
