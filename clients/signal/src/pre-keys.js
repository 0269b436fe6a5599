// SPDX-License-Identifier: AGPL-3.0-only
/** The device's own keys for libsignal: its identity, its registration id, and the pre-keys that it publishes. */
import { KEMKeyPair, KyberPreKeyRecord, PreKeyRecord, PrivateKey, SignedPreKeyRecord } from '@signalapp/libsignal-client';
import { Identities, PreKeys, SignedPreKeys, preKey } from './stores.js';

/** @import { Bytes, PublishedKeys, SignedKey, Unit } from '@orbital-relay/e2ee' */

const DAY_MS = 24 * 60 * 60 * 1000;
/** The signed and the last-resort key are replaced after this, and kept longer, for messages that are in transit. */
const RENEWED_MS = 7 * DAY_MS;
const KEPT_MS = 30 * DAY_MS;
/** Registration ids are 1 to 16,380. */
const REGISTRATIONS = 16_380;

/** @param {Unit} unit @returns {Promise<PrivateKey>} */
export async function ownKey(unit) {
  let bytes = await unit.get('identities', 'me');
  if (!bytes) unit.put('identities', 'me', (bytes = PrivateKey.generate().serialize()));
  return PrivateKey.deserialize(bytes);
}
/** @param {Unit} unit @returns {Promise<number>} */
export async function registrationId(unit) {
  let id = await unit.get('meta', 'registration_id');
  if (!id) unit.put('meta', 'registration_id', (id = 1 + ((crypto.getRandomValues(new Uint32Array(1))[0] ?? 0) % REGISTRATIONS)));
  return id;
}
/** @param {Unit} unit @param {Bytes} trusted */
export const identities = async (unit, trusted) => new Identities(unit, await ownKey(unit), await registrationId(unit), trusted);
/** @param {Unit} unit @returns {Promise<number>} */
async function nextId(unit) {
  const id = (await unit.get('meta', 'signal_pre_key')) ?? 1;
  unit.put('meta', 'signal_pre_key', id + 1);
  return id;
}

/** @param {Unit} unit @param {PrivateKey} own @param {number} now @param {boolean} last @returns {Promise<SignedKey>} */
async function newKyber(unit, own, now, last) {
  const [id, pair] = [await nextId(unit), KEMKeyPair.generate()];
  const key = pair.getPublicKey().serialize();
  const signature = own.sign(key);
  unit.put('pre_keys', preKey('kyber', id), { record: KyberPreKeyRecord.new(id, now, pair, signature).serialize(), madeAt: now, last });
  return { id, key, signature };
}
/** @param {Unit} unit @param {PrivateKey} own @param {number} now @returns {Promise<SignedKey>} */
async function newSigned(unit, own, now) {
  const [id, pair] = [await nextId(unit), PrivateKey.generate()];
  const key = pair.getPublicKey().serialize();
  const signature = own.sign(key);
  await new SignedPreKeys(unit).saveSignedPreKey(id, SignedPreKeyRecord.new(id, now, pair.getPublicKey(), pair, signature));
  return { id, key, signature };
}
/** @param {Unit} unit @param {string} kind @param {number} now @returns {Promise<boolean>} Whether a new one is due; expired ones are deleted. */
async function isDue(unit, kind, now) {
  const rows = (await unit.list('pre_keys', `${kind}/`)).filter(([, row]) => kind === 'signed' || row.last);
  for (const [key, { madeAt }] of rows) if (now - madeAt > KEPT_MS) unit.delete('pre_keys', key);
  return rows.every(([, { madeAt }]) => now - madeAt >= RENEWED_MS);
}

/**
 * Make the pre-keys that are due, and `wanted` one-time keys.
 *
 * @param {Unit} unit @param {number} now @param {number} wanted
 * @returns {Promise<Pick<PublishedKeys, 'signedPreKey' | 'kyberPreKey' | 'preKeys' | 'kyberPreKeys'>>}
 */
export async function newPreKeys(unit, now, wanted) {
  const own = await ownKey(unit);
  /** @type {Pick<PublishedKeys, 'signedPreKey' | 'kyberPreKey' | 'preKeys' | 'kyberPreKeys'>} */
  const made = {};
  if (await isDue(unit, 'signed', now)) made.signedPreKey = await newSigned(unit, own, now);
  if (await isDue(unit, 'kyber', now)) made.kyberPreKey = await newKyber(unit, own, now, true);
  made.preKeys = [];
  made.kyberPreKeys = [];
  for (let count = 0; count < wanted; count++) {
    const [id, pair] = [await nextId(unit), PrivateKey.generate()];
    await new PreKeys(unit).savePreKey(id, PreKeyRecord.new(id, pair.getPublicKey(), pair));
    made.preKeys.push({ id, key: pair.getPublicKey().serialize() });
    made.kyberPreKeys.push(await newKyber(unit, own, now, false));
  }
  return made;
}
