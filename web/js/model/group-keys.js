/** The keys of a member in this browser: the member's key pair and the group keys. */
import { open } from '../crypto/envelope.js';
import { importGroupKey, keyToText } from '../crypto/group-key.js';
import { newIdentity, unwrapGroupKey, wrapGroupKey } from '../crypto/identity.js';

/** @import {Bytes} from '../crypto/bytes.js' */
/** @import {Table} from './vault.js' */

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
  stored(groupId) {
    return this.#keys.get(groupKeyName(this.#userId, groupId));
  }

  /**
   * Find the key of a group: on this device, or wrapped on the server for this device.
   *
   * @param {string} groupId
   * @param {string} wrapped
   * @param {string} sealedName
   * @returns {Promise<{key: CryptoKey, name: string} | undefined>} Undefined when no key opens the group's name.
   */
  async of(groupId, wrapped, sealedName) {
    const stored = await this.stored(groupId);
    const name = await open(stored, '', 'group-name', sealedName);
    if (stored && name !== null) return { key: stored, name };
    const raw = await unwrapGroupKey(this.#identity, wrapped);
    return raw ? this.bring(groupId, raw, sealedName) : undefined;
  }

  /**
   * Store a key, if it opens the group's name.
   *
   * @param {string} groupId
   * @param {Bytes} raw
   * @param {string} sealedName
   * @returns {Promise<{key: CryptoKey, name: string} | undefined>} Undefined when it does not; then nothing is stored.
   */
  async bring(groupId, raw, sealedName) {
    const key = await importGroupKey(raw);
    const name = await open(key, '', 'group-name', sealedName);
    if (name === null) return undefined;
    await this.#keys.set(groupKeyName(this.#userId, groupId), key);
    return { key, name };
  }

  /** @param {Bytes} raw @returns {Promise<string>} For this member on this device alone. */
  wrap(raw) {
    return wrapGroupKey(/** @type {CryptoKeyPair} */ (this.#identity), raw);
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
