/** The keys of a member in this browser: the member's key pair and the group keys. */
import { open } from '../crypto/envelope.js';
import { importGroupKey, importNameKey, keyToText } from '../crypto/group-key.js';
import { newIdentity, unwrapGroupKey, wrapGroupKey } from '../crypto/identity.js';

/** @import {Bytes} from '../crypto/bytes.js' */
/** @import {Table} from './vault.js' */

/** @typedef {{key: CryptoKey, name: string, version: 1 | 2, moved?: boolean}} Opened The key opens the group's name; in version 2 nothing else, unless it `moved`. */
/** @typedef {{version: 2, key: CryptoKey, moved?: boolean}} Second How the key of a group of version 2 is stored; `moved`: it is the one that version 1 had. */

/** @param {string} userId */
export const identityName = (userId) => `${userId}/identity`;
/** @param {string} userId @param {string} groupId */
export const groupKeyName = (userId, groupId) => `${userId}/group/${groupId}`;

/** The keys of one member. A key counts only when it opens the group's name; any other is treated as missing. */
export class GroupKeys {
  /** @type {CryptoKeyPair | undefined} */
  #identity;
  #userId;
  #keys;

  /** @param {string} userId @param {Table} keys */
  constructor(userId, keys) {
    this.#userId = userId;
    this.#keys = keys;
  }

  /** Load the member's own pair, or make one. */
  async start() {
    const name = identityName(this.#userId);
    this.#identity = await this.#keys.get(name);
    if (this.#identity) return;
    this.#identity = await newIdentity();
    await this.#keys.set(name, this.#identity);
  }

  /** @param {string} groupId @returns {Promise<CryptoKey | undefined>} As it is stored. */
  async stored(groupId) {
    return (await this.#stored(groupId))?.key;
  }

  /** @param {string} groupId @returns {Promise<{key: CryptoKey, version: 1 | 2, moved?: boolean} | undefined>} */
  async #stored(groupId) {
    /** @type {CryptoKey | Second | undefined} */
    const found = await this.#keys.get(groupKeyName(this.#userId, groupId));
    return found && ('version' in found ? found : { key: found, version: 1 });
  }

  /**
   * Find the key of a group: on this device, or wrapped on the server for this device.
   *
   * @param {string} groupId
   * @param {string} wrapped
   * @param {string} sealedName
   * @returns {Promise<Opened | undefined>} Undefined when no key opens the group's name.
   */
  async of(groupId, wrapped, sealedName) {
    const stored = await this.#stored(groupId);
    const name = await open(stored?.key, '', 'group-name', sealedName);
    if (stored && name !== null) return { ...stored, name };
    const raw = await unwrapGroupKey(this.#identity, wrapped);
    return raw ? this.bring(groupId, raw, sealedName) : undefined;
  }

  /**
   * Store a key, if it opens the group's name.
   *
   * @param {string} groupId
   * @param {Bytes} raw
   * @param {string} sealedName
   * @returns {Promise<Opened | undefined>} Undefined when it does not; then nothing is stored.
   */
  async bring(groupId, raw, sealedName) {
    const opened = await this.read(raw, sealedName);
    if (!opened) return undefined;
    const { key, version } = opened;
    await this.#keys.set(groupKeyName(this.#userId, groupId), version === 2 ? { version, key } : key);
    return opened;
  }

  /** A group has moved to version 2: its key opens the name and the past. @param {string} groupId @param {CryptoKey} key */
  async moved(groupId, key) {
    await this.#keys.set(groupKeyName(this.#userId, groupId), { version: 2, key, moved: true });
  }

  /** Open a group's name: the key that does it says which version the group has. @param {Bytes} raw @param {string} sealedName @returns {Promise<Opened | undefined>} */
  async read(raw, sealedName) {
    for (const [version, derive] of /** @type {const} */ ([
      [1, importGroupKey],
      [2, importNameKey],
    ])) {
      const key = await derive(raw);
      const name = await open(key, '', 'group-name', sealedName);
      if (name !== null) return { key, name, version };
    }
    return undefined;
  }

  /** @param {Bytes} raw @returns {Promise<string>} For this member on this device alone. */
  wrap(raw) {
    return wrapGroupKey(/** @type {CryptoKeyPair} */ (this.#identity), raw);
  }

  /** @param {string} wrapped @returns {Promise<Bytes | null>} Null when it was wrapped on another device. */
  raw(wrapped) {
    return unwrapGroupKey(this.#identity, wrapped);
  }

  /**
   * The key as it is in a link. The key in use cannot be exported; the wrapped one on the server can be opened here.
   *
   * @param {string} wrapped
   * @returns {Promise<string | null>} Null when it was wrapped on another device.
   */
  async text(wrapped) {
    const raw = await unwrapGroupKey(this.#identity, wrapped);
    return raw && keyToText(raw);
  }

  /** @param {string} groupId */
  delete(groupId) {
    return this.#keys.delete(groupKeyName(this.#userId, groupId));
  }
}
