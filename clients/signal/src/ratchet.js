// SPDX-License-Identifier: AGPL-3.0-only
/** The ratchet by libsignal: its sender keys and sessions; deliveries by HPKE to and from devices that do not have it. */
import {
  ErrorCode, KEMKeyPair, KEMPublicKey, KyberPreKeyRecord, LibSignalErrorBase, PreKeyBundle, PreKeyRecord, PreKeySignalMessage, PrivateKey, ProtocolAddress, PublicKey,
  SenderKeyDistributionMessage, SignalMessage, SignedPreKeyRecord, groupDecrypt, groupEncrypt, processPreKeyBundle, processSenderKeyDistributionMessage, signalDecrypt,
  signalDecryptPreKey, signalEncrypt, CiphertextMessageType,
} from '@signalapp/libsignal-client'; // prettier-ignore
import { E2eeError, SUITES, SUITE_BITS, checkPublicKey, copy, equal, openHpke, publishHpke, readSkdm, sealHpke, toHex, uuidText, verify } from '@orbital-relay/e2ee';
import { Identities, KyberPreKeys, PreKeys, SenderKeys, Sessions, SignedPreKeys, preKey } from './stores.js';

/** @import { Address, Bytes, PublishedKeys, Ratchet, SignedKey, Unit, Way } from '@orbital-relay/e2ee' */

const DAY_MS = 24 * 60 * 60 * 1000;
/** The signed and the last-resort key are replaced after this, and kept longer, for messages that are on their way. */
const RENEWED_MS = 7 * DAY_MS;
const KEPT_MS = 30 * DAY_MS;
/** Registration ids are 1 to 16,380. */
const REGISTRATIONS = 16_380;

/** @param {Address} address */
const protocolAddress = ({ user, device }) => ProtocolAddress.new(user, device);

/** @param {unknown} error @returns {E2eeError} What the ports name it; other errors pass. */
function named(error) {
  if (error instanceof E2eeError) return error;
  if (!(error instanceof LibSignalErrorBase)) throw error;
  const { code } = /** @type {{code: number}} */ (/** @type {unknown} */ (error));
  if (code === ErrorCode.DuplicatedMessage) return new E2eeError('repeated', 'libsignal has read this message already');
  if (code === ErrorCode.UntrustedIdentity) return new E2eeError('bad_key', 'a message of an identity that the roster does not have');
  if (code === ErrorCode.InvalidSenderKeySession) return new E2eeError('unknown_chain', 'no key of this distribution is here');
  return new E2eeError('cannot_open', `libsignal refuses the message: code ${code}`);
}

/** @template T @param {() => Promise<T>} work @returns {Promise<T>} */
async function translated(work) {
  try {
    return await work();
  } catch (error) {
    throw named(error);
  }
}

/** @returns {Ratchet} */
export function signalRatchet() {
  /** @param {Unit} unit @returns {Promise<PrivateKey>} */
  async function ownKey(unit) {
    let bytes = await unit.get('identities', 'me');
    if (!bytes) unit.put('identities', 'me', (bytes = PrivateKey.generate().serialize()));
    return PrivateKey.deserialize(bytes);
  }
  /** @param {Unit} unit @returns {Promise<number>} */
  async function registrationId(unit) {
    let id = await unit.get('meta', 'registration_id');
    if (!id) unit.put('meta', 'registration_id', (id = 1 + (crypto.getRandomValues(new Uint32Array(1))[0] ?? 0) % REGISTRATIONS));
    return id;
  }
  /** @param {Unit} unit @param {Bytes} trusted */
  const identities = async (unit, trusted) => new Identities(unit, await ownKey(unit), await registrationId(unit), trusted);
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

  /** @type {Ratchet} */
  const ratchet = {
    suites: SUITE_BITS.libsignal | SUITE_BITS.hpke,
    async identity(unit) {
      const own = await ownKey(unit);
      return { publicKey: own.getPublicKey().serialize(), sign: async (message) => own.sign(copy(message)) };
    },
    async newChain(unit, me, distribution) {
      await SenderKeyDistributionMessage.create(protocolAddress(me), uuidText(distribution), new SenderKeys(unit));
    },
    async skdm(unit, me, distribution) {
      return (await SenderKeyDistributionMessage.create(protocolAddress(me), uuidText(distribution), new SenderKeys(unit))).serialize();
    },
    encrypt: (unit, me, distribution, plain) =>
      translated(async () => (await groupEncrypt(protocolAddress(me), uuidText(distribution), new SenderKeys(unit), plain)).serialize()),
    async forget(unit, distribution) {
      for (const [key] of await unit.list('sender_keys', `${toHex(distribution)}/`)) unit.delete('sender_keys', key);
    },
    async learn(unit, from, bytes) {
      const { distribution, signingKey } = readSkdm(bytes);
      checkPublicKey(signingKey);
      const key = `signing/${toHex(distribution)}`;
      if (await unit.get('sender_keys', key)) return;
      unit.put('sender_keys', key, signingKey);
      await translated(() => processSenderKeyDistributionMessage(protocolAddress(from), SenderKeyDistributionMessage.deserialize(bytes), new SenderKeys(unit)));
    },
    async decrypt(unit, from, message, bytes) {
      const signingKey = await unit.get('sender_keys', `signing/${toHex(message.distribution)}`);
      if (!signingKey) throw new E2eeError('unknown_chain', 'no key of this distribution is here');
      // libsignal accepts S + ℓ: the strict verification of all clients comes first.
      if (!(await verify(signingKey, message.signed, message.signature))) throw new E2eeError('bad_signature', 'the message is not signed by its chain');
      return translated(() => groupDecrypt(protocolAddress(from), new SenderKeys(unit), bytes));
    },
    async publish(unit, me, now, wanted) {
      const own = await ownKey(unit);
      const signer = await ratchet.identity(unit);
      /** @type {PublishedKeys} */
      const body = { device: me.device, identity: signer.publicKey, suites: ratchet.suites, registrationId: await registrationId(unit), ...(await publishHpke(unit, 'bytes', signer, now, wanted)) };
      if (await isDue(unit, 'signed', now)) body.signedPreKey = await newSigned(unit, own, now);
      if (await isDue(unit, 'kyber', now)) body.kyberPreKey = await newKyber(unit, own, now, true);
      body.preKeys = [];
      body.kyberPreKeys = [];
      for (let count = 0; count < wanted; count++) {
        const [id, pair] = [await nextId(unit), PrivateKey.generate()];
        await new PreKeys(unit).savePreKey(id, PreKeyRecord.new(id, pair.getPublicKey(), pair));
        body.preKeys.push({ id, key: pair.getPublicKey().serialize() });
        body.kyberPreKeys.push(await newKyber(unit, own, now, false));
      }
      return body;
    },
    async claimSuite(unit, to) {
      if (!(to.suites & SUITE_BITS.libsignal)) return SUITES.hpke;
      const session = await new Sessions(unit).getSession(protocolAddress(to));
      return session?.hasCurrentState() ? null : SUITES.preKeySignal;
    },
    async renewSession(unit, to) {
      const sessions = new Sessions(unit);
      const session = await sessions.getSession(protocolAddress(to));
      if (!session) return;
      // The old one stays readable for messages that are on their way.
      session.archiveCurrentState();
      await sessions.saveSession(protocolAddress(to), session);
    },
    async seal(unit, way, bundle, pairwise) {
      if (bundle?.suite === SUITES.hpke) return sealHpke(await ratchet.identity(unit), way, bundle, pairwise);
      return translated(async () => {
        const [to, from, sessions, known] = [protocolAddress(way.to), protocolAddress(way.from), new Sessions(unit), await identities(unit, way.identity)];
        if (bundle) {
          const { registrationId: id, preKey: one, signedPreKey: signed, kyberPreKey: kyber } = bundle;
          if (!equal(bundle.identity, way.identity)) throw new E2eeError('bad_key', `the directory gives another identity for ${way.to.user}/${way.to.device} than the roster`);
          if (id === undefined || !signed || !kyber) throw new E2eeError('not_found', `no libsignal keys were given for ${way.to.user}/${way.to.device}`);
          for (const { key, signature } of [signed, kyber])
            if (!(await verify(way.identity, key, signature))) throw new E2eeError('bad_signature', `a pre-key of ${way.to.user}/${way.to.device} is not signed by its device`);
          const made = PreKeyBundle.new(
            id, way.to.device, one?.id ?? null, one ? PublicKey.deserialize(one.key) : null, signed.id, PublicKey.deserialize(signed.key), signed.signature,
            PublicKey.deserialize(way.identity), kyber.id, KEMPublicKey.deserialize(kyber.key), kyber.signature,
          ); // prettier-ignore
          await processPreKeyBundle(made, to, from, sessions, known);
        }
        const message = await signalEncrypt(pairwise, to, from, sessions, known);
        return { suite: message.type() === CiphertextMessageType.PreKey ? SUITES.preKeySignal : SUITES.signal, sealed: message.serialize() };
      });
    },
    async open(unit, way, delivery) {
      if (delivery.suite === SUITES.hpke) return openHpke(unit, way, delivery);
      return { pairwise: await translated(() => openSession(unit, way, delivery)) };
    },
  };

  /** @param {Unit} unit @param {Way} way @param {{suite: number, sealed: Bytes}} delivery @returns {Promise<Bytes>} */
  async function openSession(unit, way, { suite, sealed }) {
    const [from, to, sessions, known] = [protocolAddress(way.from), protocolAddress(way.to), new Sessions(unit), await identities(unit, way.identity)];
    if (suite === SUITES.signal) return signalDecrypt(SignalMessage.deserialize(sealed), from, to, sessions, known);
    if (suite !== SUITES.preKeySignal) throw new E2eeError('unsupported', `suite ${suite} is unknown`);
    const stores = /** @type {const} */ ([new PreKeys(unit), new SignedPreKeys(unit), new KyberPreKeys(unit)]);
    return signalDecryptPreKey(PreKeySignalMessage.deserialize(sealed), from, to, sessions, known, ...stores);
  }
  return ratchet;
}
