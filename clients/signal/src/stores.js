// SPDX-License-Identifier: AGPL-3.0-only
/** libsignal's stores on a unit of work: what libsignal reads and writes is part of the caller's transaction. */
// biome-ignore format: a list is read across the line
import {
  IdentityChange, IdentityKeyStore, KyberPreKeyRecord, KyberPreKeyStore, PreKeyRecord, PreKeyStore, PublicKey, SenderKeyRecord, SenderKeyStore, SessionRecord,
  SessionStore, SignedPreKeyRecord, SignedPreKeyStore,
} from '@signalapp/libsignal-client';
import { E2eeError, equal, toHex } from '@orbital-relay/e2ee';

/** @import { PrivateKey, ProtocolAddress } from '@signalapp/libsignal-client' */
/** @import { Bytes, Unit } from '@orbital-relay/e2ee' */

/** @param {ProtocolAddress} address */
const nameOf = (address) => `${address.name()}/${address.deviceId()}`;

/** @param {string} uuid */
const bare = (uuid) => uuid.replace(/-/g, '');

/** @param {string} distribution Hexadecimal. @param {string} name */
export const senderKey = (distribution, name) => `${distribution}/${name}`;

export class SenderKeys extends SenderKeyStore {
  /** @param {Unit} unit */
  constructor(unit) {
    super();
    this.unit = unit;
  }
  /** @override @param {ProtocolAddress} sender @param {string} distribution @param {SenderKeyRecord} record */
  async saveSenderKey(sender, distribution, record) {
    this.unit.put('sender_keys', senderKey(bare(distribution), nameOf(sender)), record.serialize());
  }
  /** @override @param {ProtocolAddress} sender @param {string} distribution @returns {Promise<SenderKeyRecord | null>} */
  async getSenderKey(sender, distribution) {
    const bytes = await this.unit.get('sender_keys', senderKey(bare(distribution), nameOf(sender)));
    return bytes ? SenderKeyRecord.deserialize(bytes) : null;
  }
}

export class Sessions extends SessionStore {
  /** @param {Unit} unit */
  constructor(unit) {
    super();
    this.unit = unit;
  }
  /** @override @param {ProtocolAddress} address @param {SessionRecord} record */
  async saveSession(address, record) {
    this.unit.put('sessions', nameOf(address), record.serialize());
  }
  /** @override @param {ProtocolAddress} address @returns {Promise<SessionRecord | null>} */
  async getSession(address) {
    const bytes = await this.unit.get('sessions', nameOf(address));
    return bytes ? SessionRecord.deserialize(bytes) : null;
  }
  /** @override @param {ProtocolAddress[]} addresses @returns {Promise<SessionRecord[]>} */
  async getExistingSessions(addresses) {
    const found = [];
    for (const address of addresses) {
      const session = await this.getSession(address);
      if (!session) throw new E2eeError('not_found', `no session with ${nameOf(address)}`);
      found.push(session);
    }
    return found;
  }
}

/** Trusts one identity for one address: the roster's. */
export class Identities extends IdentityKeyStore {
  /** @param {Unit} unit @param {PrivateKey} own @param {number} registrationId @param {Bytes} trusted */
  constructor(unit, own, registrationId, trusted) {
    super();
    this.unit = unit;
    this.own = own;
    this.registrationId = registrationId;
    this.trusted = trusted;
  }
  /** @override */
  async getIdentityKey() {
    return this.own;
  }
  /** @override */
  async getLocalRegistrationId() {
    return this.registrationId;
  }
  /** @override @param {ProtocolAddress} address @param {PublicKey} key @returns {Promise<IdentityChange>} */
  async saveIdentity(address, key) {
    const known = await this.unit.get('identities', `peer/${nameOf(address)}`);
    this.unit.put('identities', `peer/${nameOf(address)}`, key.serialize());
    return known && toHex(known) !== toHex(key.serialize()) ? IdentityChange.ReplacedExisting : IdentityChange.NewOrUnchanged;
  }
  /** @override @param {ProtocolAddress} _address @param {PublicKey} key @returns {Promise<boolean>} */
  async isTrustedIdentity(_address, key) {
    return equal(key.serialize(), this.trusted);
  }
  /** @override @param {ProtocolAddress} _address @returns {Promise<PublicKey | null>} */
  async getIdentity(_address) {
    return PublicKey.deserialize(this.trusted);
  }
}

/** @param {string} kind @param {number} id */
export const preKey = (kind, id) => `${kind}/${String(id).padStart(16, '0')}`;

/** @param {Unit} unit @param {string} kind @param {number} id @returns {Promise<{record: Bytes, last?: boolean}>} */
async function loadPreKey(unit, kind, id) {
  const row = await unit.get('pre_keys', preKey(kind, id));
  if (!row) throw new E2eeError('cannot_open', `${kind} pre-key ${id} is not here: it was used, or is of another device`);
  return row;
}

export class PreKeys extends PreKeyStore {
  /** @param {Unit} unit */
  constructor(unit) {
    super();
    this.unit = unit;
  }
  /** @override @param {number} id @param {PreKeyRecord} record */
  async savePreKey(id, record) {
    this.unit.put('pre_keys', preKey('one-time', id), { record: record.serialize() });
  }
  /** @override @param {number} id */
  async getPreKey(id) {
    return PreKeyRecord.deserialize((await loadPreKey(this.unit, 'one-time', id)).record);
  }
  /** @override @param {number} id */
  async removePreKey(id) {
    this.unit.delete('pre_keys', preKey('one-time', id));
  }
}

export class SignedPreKeys extends SignedPreKeyStore {
  /** @param {Unit} unit */
  constructor(unit) {
    super();
    this.unit = unit;
  }
  /** @override @param {number} id @param {SignedPreKeyRecord} record */
  async saveSignedPreKey(id, record) {
    this.unit.put('pre_keys', preKey('signed', id), { record: record.serialize(), madeAt: record.timestamp() });
  }
  /** @override @param {number} id */
  async getSignedPreKey(id) {
    return SignedPreKeyRecord.deserialize((await loadPreKey(this.unit, 'signed', id)).record);
  }
}

export class KyberPreKeys extends KyberPreKeyStore {
  /** @param {Unit} unit */
  constructor(unit) {
    super();
    this.unit = unit;
  }
  /** @override @param {number} id @param {KyberPreKeyRecord} record */
  async saveKyberPreKey(id, record) {
    this.unit.put('pre_keys', preKey('kyber', id), { record: record.serialize(), madeAt: record.timestamp() });
  }
  /** @override @param {number} id */
  async getKyberPreKey(id) {
    return KyberPreKeyRecord.deserialize((await loadPreKey(this.unit, 'kyber', id)).record);
  }
  /**
   * A one-time key is deleted. With a last-resort key no base key counts twice: a replayed pre-key message is refused.
   *
   * @override
   * @param {number} id
   * @param {number} signedId
   * @param {PublicKey} baseKey
   */
  async markKyberPreKeyUsed(id, signedId, baseKey) {
    const { last } = await loadPreKey(this.unit, 'kyber', id);
    if (!last) return this.unit.delete('pre_keys', preKey('kyber', id));
    const key = `${id}/${signedId}/${toHex(baseKey.serialize())}`;
    if (await this.unit.get('kyber_used', key)) throw new E2eeError('repeated', 'this pre-key message was opened already');
    this.unit.put('kyber_used', key, true);
  }
}
