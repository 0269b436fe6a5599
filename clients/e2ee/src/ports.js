/** The interfaces (ports) that the encryption layer needs, with their guarantees. */

/** @import { Bytes } from './bytes.js' */
/** @import { Address, Delivery } from './formats/envelope.js' */
/** @import { Signer } from './formats/records.js' */
/** @import { SenderKeyMessage } from './formats/sender-key.js' */
/** @import { Unit } from './unit.js' */

/** The tables of a store. Keys are strings and list in their order; values are plain data, bytes and CryptoKeys. */
// biome-ignore format: a list is read across the line
export const TABLES = Object.freeze(
  /** @type {const} */ ([
    'meta', 'identities', 'sessions', 'pre_keys', 'kyber_used', 'sender_keys', 'distributions', 'own', 'given', 'roster', 'records', 'members', 'groups',
    'heads', 'frames', 'nonces', 'items', 'unhandled', 'waiting', 'outbox', 'warnings',
  ]),
);

/** @typedef {typeof TABLES[number]} Table */
/** @typedef {{table: Table, key: string, value?: unknown}} Write Without `value`: delete. */

/**
 * Where a device keeps everything. One `commit` is one transaction: all of it is there after a crash, or none of it.
 *
 * @typedef {object} Store
 * @property {'bytes' | 'handles'} keys `bytes`: private keys are stored as bytes in an encrypted file. `handles`: as CryptoKeys that cannot be read out.
 * @property {(table: Table, key: string) => Promise<unknown>} get Undefined when there is no such key.
 * @property {(table: Table, prefix: string, limit?: number) => Promise<[string, unknown][]>} list Keys that begin with `prefix`, in order.
 * @property {(writes: readonly Write[], durable: boolean) => Promise<void>} commit `durable`: on the disk before it resolves.
 * @property {<T>(work: () => Promise<T>) => Promise<T>} exclusive Run `work` while no other tab, worker or caller runs one of its own.
 * @property {() => Promise<Visit>} [visit] Begin a visit of a tab; a store that one program has for itself has no visits.
 * @property {() => Promise<void>} close
 */
/**
 * A tab's time with a store that it shares with other tabs. It ends with the tab, also when that crashes.
 *
 * @typedef {object} Visit
 * @property {string} name Of the chain that this visit sends with.
 * @property {() => Promise<Set<string>>} open Names of the visits that have not ended.
 * @property {<T>(work: () => Promise<T>) => Promise<T>} alone Run `work` in one visit at a time; unlike in `exclusive`, it may use the store.
 * @property {() => void} end
 */

/**
 * What the server offers; the client's transport implements it.
 *
 * @typedef {object} Relay
 * @property {(group: string, type: string, body: Record<string, unknown>, options: {key: string, ifEpoch?: number}) => Promise<{seq: number}>} post
 *   Rejects with E2eeError `epoch_changed` (`details.epoch`) for 409 `EPOCH_CHANGED`, `conflict` for 409 `CONFLICT`.
 * @property {(group: string, devices: {user: string, device: number, suite: number}[]) => Promise<Bundle[]>} claim
 * @property {(body: PublishedKeys) => Promise<{device: number}>} putKeys
 * @property {(group: string) => Promise<DirectoryDevice[]>} devices
 * @property {(group: string, seq: number) => Promise<void>} catchUp Resolves when every event up to `seq` was given to `receive`.
 */

/** @typedef {{id: number, key: Bytes, signature: Bytes}} SignedKey */
/**
 * @typedef {object} PublishedKeys The body of `PUT /v1/keys`, before base64.
 * @property {number} device
 * @property {Bytes} identity
 * @property {number} suites
 * @property {number} [registrationId]
 * @property {SignedKey} [signedPreKey]
 * @property {SignedKey} [kyberPreKey]
 * @property {{id: number, key: Bytes}[]} [preKeys]
 * @property {SignedKey[]} [kyberPreKeys]
 * @property {SignedKey} [hpkePreKey] Last resort.
 * @property {SignedKey[]} hpkePreKeys
 */
/**
 * @typedef {object} Bundle What a claim gives for one device.
 * @property {string} user
 * @property {number} device
 * @property {number} suite The suite asked for: 1 libsignal, 16 HPKE.
 * @property {Bytes} identity
 * @property {SignedKey} [hpkePreKey]
 * @property {boolean} [lastResort]
 * @property {number} [registrationId]
 * @property {{id: number, key: Bytes}} [preKey]
 * @property {SignedKey} [signedPreKey]
 * @property {SignedKey} [kyberPreKey]
 */
/** @typedef {{user: string, device: number, identity: Bytes, suites: number, seenAt: number}} DirectoryDevice `seenAt` in milliseconds since the Unix epoch. */

/**
 * The cryptographic state of a device. Every method reads and writes through the unit of work alone, so that ratchet, item and position are one
 * transaction. Methods are called one at a time.
 *
 * @typedef {object} Ratchet
 * @property {number} suites Bit mask: 1 libsignal, 2 HPKE.
 * @property {(unit: Unit) => Promise<Signer>} identity The device's identity, made on the first call.
 * @property {(unit: Unit, me: Address, distribution: Bytes) => Promise<void>} newChain Make a chain of one's own.
 * @property {(unit: Unit, me: Address, distribution: Bytes) => Promise<Bytes>} skdm Give it from its present iteration on.
 * @property {(unit: Unit, me: Address, distribution: Bytes, plain: Bytes) => Promise<Bytes>} encrypt A SenderKeyMessage.
 * @property {(unit: Unit, distribution: Bytes) => Promise<void>} forget
 * @property {(unit: Unit, from: Address, skdm: Bytes) => Promise<void>} learn A chain of another device; a known one stays as it is.
 * @property {(unit: Unit, from: Address, message: SenderKeyMessage, bytes: Bytes) => Promise<Bytes>} decrypt
 *   Rejects with E2eeError `repeated`, `bad_signature`, `too_far_ahead`, `cannot_open`, `unknown_chain`.
 * @property {(unit: Unit, me: Address, now: number, wanted: number) => Promise<PublishedKeys>} publish
 *   Make `wanted` new one-time keys of each kind, and the body that offers them; the last-resort keys are renewed when they are due.
 * @property {(unit: Unit, to: Address & {suites: number}) => Promise<number | null>} claimSuite The suite to claim keys of; null when a session is there.
 * @property {(unit: Unit, to: Address) => Promise<void>} renewSession The next delivery to this device begins a new session: it could not read the last one.
 * @property {(unit: Unit, way: Way, bundle: Bundle | null, pairwise: Bytes) => Promise<Pick<Delivery, 'suite' | 'sealed'>>} seal
 *   Rejects with E2eeError `bad_signature`, `bad_key` when the bundle is not signed by `way.identity`.
 * @property {(unit: Unit, way: Way, delivery: Pick<Delivery, 'suite' | 'sealed'>) => Promise<Opened>} open
 *   Rejects with E2eeError `cannot_open`, `bad_signature`, `unsupported`, and `bad_key` when it is of another identity than `way.identity`.
 */
/** @typedef {{group: string, from: Address, to: Address, identity: Bytes}} Way `identity`: of the other device, as the roster has it. */
/** @typedef {{pairwise: Bytes, proof?: Bytes, proofKeyId?: number}} Opened `proof`: the Signed of a suite-16 delivery. */
