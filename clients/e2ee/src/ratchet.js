/** The ratchet without libsignal: sender-key chains of its own code, deliveries by HPKE. For browsers, Electron and Node. */
import { random, toHex } from './bytes.js';
import { chainOf, decrypt, encrypt, skdmOf } from './crypto/chain.js';
import { exportSeed, generateSigningKey, importSeed, sign, toCurve } from './crypto/curve.js';
import { E2eeError } from './errors.js';
import { SUITES, SUITE_BITS } from './formats/envelope.js';
import { readSkdm } from './formats/sender-key.js';
import { openHpke, publishHpke, sealHpke } from './hpke-delivery.js';

/** @import { Bytes } from './bytes.js' */
/** @import { Chain } from './crypto/chain.js' */
/** @import { SigningKey } from './crypto/curve.js' */
/** @import { Address } from './formats/envelope.js' */
/** @import { Ratchet, Store } from './ports.js' */
/** @import { Unit } from './unit.js' */

/** @typedef {{edwards: Bytes, seed?: Bytes, key?: CryptoKey}} StoredKey */

/** Chain ids have 31 bits. */
const newChainId = () => new DataView(random(4).buffer).getUint32(0) >>> 1;

/** @param {Store['keys']} keys @returns {Promise<StoredKey>} */
async function newStoredKey(keys) {
  const { key, edwards } = await generateSigningKey(keys === 'bytes');
  return keys === 'bytes' ? { edwards, seed: await exportSeed(key) } : { edwards, key };
}

/** @param {StoredKey} stored @returns {Promise<SigningKey>} */
const loadKey = async ({ edwards, seed, key }) => ({ edwards, key: key ?? (await importSeed(/** @type {Bytes} */ (seed))) });

/** @param {Bytes} distribution */
const ownKey = (distribution) => `own/${toHex(distribution)}`;
/** @param {Address} from @param {Bytes} distribution */
const chainKey = (from, distribution) => `${from.user}/${from.device}/${toHex(distribution)}`;

/**
 * @param {Pick<Store, 'keys'>} store Whether private keys are kept as bytes or as handles.
 * @returns {Ratchet}
 */
export function hpkeRatchet({ keys }) {
  /** @param {Unit} unit @param {Bytes} distribution @returns {Promise<{chain: Chain, signing: StoredKey}>} */
  async function own(unit, distribution) {
    const row = await unit.get('sender_keys', ownKey(distribution));
    if (!row) throw new E2eeError('unknown_chain', 'this device has no such chain of its own');
    return row;
  }
  /** @type {Ratchet} */
  const ratchet = {
    suites: SUITE_BITS.hpke,
    async identity(unit) {
      let stored = await unit.get('identities', 'me');
      if (!stored) unit.put('identities', 'me', (stored = await newStoredKey(keys)));
      const signing = await loadKey(stored);
      return { publicKey: toCurve(signing.edwards), sign: (message) => sign(signing, message) };
    },
    async newChain(unit, _me, distribution) {
      const signing = await newStoredKey(keys);
      const chain = {
        distribution,
        chain: newChainId(),
        iteration: 0,
        chainKey: random(32),
        signingKey: toCurve(signing.edwards),
        skipped: [],
      };
      unit.put('sender_keys', ownKey(distribution), { chain, signing });
    },
    async skdm(unit, _me, distribution) {
      return skdmOf((await own(unit, distribution)).chain);
    },
    async encrypt(unit, _me, distribution, plain) {
      const { chain, signing } = await own(unit, distribution);
      const made = await encrypt(chain, await loadKey(signing), plain);
      unit.put('sender_keys', ownKey(distribution), { chain: made.chain, signing });
      return made.message;
    },
    async forget(unit, distribution) {
      unit.delete('sender_keys', ownKey(distribution));
    },
    async learn(unit, from, bytes) {
      const skdm = readSkdm(bytes);
      const key = chainKey(from, skdm.distribution);
      if (!(await unit.get('sender_keys', key))) unit.put('sender_keys', key, chainOf(skdm));
    },
    async decrypt(unit, from, message) {
      const key = chainKey(from, message.distribution);
      const chain = /** @type {Chain | undefined} */ (await unit.get('sender_keys', key));
      if (!chain) throw new E2eeError('unknown_chain', 'no key of this distribution is here');
      const read = await decrypt(chain, message);
      unit.put('sender_keys', key, read.chain);
      return read.plain;
    },
    async publish(unit, me, now, wanted) {
      const signer = await ratchet.identity(unit);
      return {
        device: me.device,
        identity: signer.publicKey,
        suites: ratchet.suites,
        ...(await publishHpke(unit, keys, signer, now, wanted)),
      };
    },
    async claimSuite() {
      return SUITES.hpke;
    },
    async renewSession() {
      // HPKE has no session to break.
    },
    async seal(unit, way, bundle, pairwise) {
      return sealHpke(await ratchet.identity(unit), way, bundle, pairwise);
    },
    async open(unit, way, delivery) {
      if (delivery.suite !== SUITES.hpke) throw new E2eeError('unsupported', `suite ${delivery.suite} needs libsignal`);
      return openHpke(unit, way, delivery);
    },
  };
  return ratchet;
}
