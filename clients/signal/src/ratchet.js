// SPDX-License-Identifier: AGPL-3.0-only
/** The ratchet by libsignal: its sender keys and sessions; deliveries by HPKE to and from devices that do not have it. */
import {
  CiphertextMessageType,
  ErrorCode,
  KEMPublicKey,
  LibSignalErrorBase,
  PreKeyBundle,
  PreKeySignalMessage,
  ProtocolAddress,
  PublicKey,
  SenderKeyDistributionMessage,
  SignalMessage,
  groupDecrypt,
  groupEncrypt,
  processPreKeyBundle,
  processSenderKeyDistributionMessage,
  signalDecrypt,
  signalDecryptPreKey,
  signalEncrypt,
} from '@signalapp/libsignal-client';
import {
  E2eeError,
  SUITES,
  SUITE_BITS,
  checkPublicKey,
  copy,
  equal,
  openHpke,
  publishHpke,
  readSkdm,
  sealHpke,
  toHex,
  uuidText,
  verify,
} from '@orbital-relay/e2ee';
import { identities, newPreKeys, ownKey, registrationId } from './pre-keys.js';
import { KyberPreKeys, PreKeys, SenderKeys, Sessions, SignedPreKeys } from './stores.js';

/** @import { Address, Bytes, Ratchet, Unit, Way } from '@orbital-relay/e2ee' */

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

/** @param {Unit} unit @param {Way} way @param {{suite: number, sealed: Bytes}} delivery @returns {Promise<Bytes>} */
async function openSession(unit, way, { suite, sealed }) {
  const [from, to, sessions, known] = [
    protocolAddress(way.from),
    protocolAddress(way.to),
    new Sessions(unit),
    await identities(unit, way.identity),
  ];
  if (suite === SUITES.signal) return signalDecrypt(SignalMessage.deserialize(sealed), from, to, sessions, known);
  if (suite !== SUITES.preKeySignal) throw new E2eeError('unsupported', `suite ${suite} is unknown`);
  const stores = /** @type {const} */ ([new PreKeys(unit), new SignedPreKeys(unit), new KyberPreKeys(unit)]);
  return signalDecryptPreKey(PreKeySignalMessage.deserialize(sealed), from, to, sessions, known, ...stores);
}

/**
 * Every key is in the unit of work, none in the object.
 *
 * @type {Ratchet}
 */
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

  encrypt(unit, me, distribution, plain) {
    return translated(async () =>
      (await groupEncrypt(protocolAddress(me), uuidText(distribution), new SenderKeys(unit), plain)).serialize(),
    );
  },

  async forget(unit, distribution) {
    for (const [key] of await unit.list('sender_keys', `${toHex(distribution)}/`)) unit.delete('sender_keys', key);
  },

  async learn(unit, from, bytes) {
    const { distribution, signingKey } = readSkdm(bytes);
    checkPublicKey(signingKey);
    const key = `signing/${toHex(distribution)}`;
    if (await unit.get('sender_keys', key)) return;
    unit.put('sender_keys', key, signingKey);
    await translated(() =>
      processSenderKeyDistributionMessage(protocolAddress(from), SenderKeyDistributionMessage.deserialize(bytes), new SenderKeys(unit)),
    );
  },

  async decrypt(unit, from, message, bytes) {
    const signingKey = await unit.get('sender_keys', `signing/${toHex(message.distribution)}`);
    if (!signingKey) throw new E2eeError('unknown_chain', 'no key of this distribution is here');
    // libsignal accepts S + ℓ: the strict verification of all clients comes first.
    if (!(await verify(signingKey, message.signed, message.signature)))
      throw new E2eeError('bad_signature', 'the message is not signed by its chain');
    return translated(() => groupDecrypt(protocolAddress(from), new SenderKeys(unit), bytes));
  },

  async publish(unit, me, now, wanted) {
    const signer = await ratchet.identity(unit);
    return {
      device: me.device,
      identity: signer.publicKey,
      suites: ratchet.suites,
      registrationId: await registrationId(unit),
      ...(await publishHpke(unit, 'bytes', signer, now, wanted)),
      ...(await newPreKeys(unit, now, wanted)),
    };
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
    // The old one stays readable for messages that are in transit.
    session.archiveCurrentState();
    await sessions.saveSession(protocolAddress(to), session);
  },

  async seal(unit, way, bundle, pairwise) {
    if (bundle?.suite === SUITES.hpke) return sealHpke(await ratchet.identity(unit), way, bundle, pairwise);
    return translated(async () => {
      const [to, from, sessions, known] = [
        protocolAddress(way.to),
        protocolAddress(way.from),
        new Sessions(unit),
        await identities(unit, way.identity),
      ];
      if (bundle) {
        const { registrationId: id, preKey: one, signedPreKey: signed, kyberPreKey: kyber } = bundle;
        if (!equal(bundle.identity, way.identity))
          throw new E2eeError('bad_key', `the directory gives another identity for ${way.to.user}/${way.to.device} than the roster`);
        if (id === undefined || !signed || !kyber)
          throw new E2eeError('not_found', `no libsignal keys were given for ${way.to.user}/${way.to.device}`);
        for (const { key, signature } of [signed, kyber])
          if (!(await verify(way.identity, key, signature)))
            throw new E2eeError('bad_signature', `a pre-key of ${way.to.user}/${way.to.device} is not signed by its device`);
        // biome-ignore format: a list is read across the line
        const made = PreKeyBundle.new(
          id, way.to.device, one?.id ?? null, one ? PublicKey.deserialize(one.key) : null, signed.id, PublicKey.deserialize(signed.key), signed.signature,
          PublicKey.deserialize(way.identity), kyber.id, KEMPublicKey.deserialize(kyber.key), kyber.signature,
        );
        await processPreKeyBundle(made, to, from, sessions, known);
      }
      const message = await signalEncrypt(pairwise, to, from, sessions, known);
      return {
        suite: message.type() === CiphertextMessageType.PreKey ? SUITES.preKeySignal : SUITES.signal,
        sealed: message.serialize(),
      };
    });
  },

  async open(unit, way, delivery) {
    if (delivery.suite === SUITES.hpke) return openHpke(unit, way, delivery);
    return { pairwise: await translated(() => openSession(unit, way, delivery)) };
  },
};

/** @returns {Ratchet} */
export const signalRatchet = () => ratchet;
