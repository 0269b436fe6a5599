/** Creates, joins, unlocks and leaves groups. */
import { importGroupKey, importNameKey, newGroupKey } from '../crypto/group-key.js';
import { seal } from '../crypto/envelope.js';

/** @import {RestMethods} from '/sdk/rest.js' */
/** @import {Bytes} from '../crypto/bytes.js' */
/** @import {GroupKeys} from './group-keys.js' */
/** @import {Group} from './types.js' */
/** @import {Versions} from './versions.js' */

const WRONG_KEY = 'This key does not open the group. A letter may be wrong: ask for the link again.';

/**
 * @typedef {object} Surroundings
 * @property {RestMethods} api
 * @property {string} userId
 * @property {Map<string, Group>} groups
 * @property {GroupKeys} keys
 * @property {Versions} versions
 * @property {<T>(question: () => Promise<T>) => Promise<T>} ask
 * @property {<T>(act: () => Promise<T>) => Promise<T>} entering Come into a group, in one tab at a time.
 * @property {() => Promise<void>} sync
 * @property {(groupId: string) => void} forget
 * @property {(group: Group) => Promise<void>} unlocked
 */

/** @typedef {{name?: string, version?: 1 | 2, key?: string, raw?: Bytes, body?: {encrypted_name: string, encrypted_group_key: string}}} Attempt The request that a retry repeats. */

/** A member's actions on groups. A key that does not open a group's name is never stored. */
export class Membership {
  #around;

  /** @param {Surroundings} around */
  constructor(around) {
    this.#around = around;
  }

  /**
   * Create a group.
   *
   * @param {string} name
   * @param {Attempt} attempt Empty at first; pass it again after a lost answer, so that the retry creates no second group.
   * @param {1 | 2} [version] Of its encryption.
   * @returns {Promise<string>} Its id.
   */
  async create(name, attempt, version = 1) {
    const { api, ask, entering, keys, sync, versions } = this.#around;
    const cipher = version === 2 ? await versions.load() : undefined;
    if (attempt.name !== name || attempt.version !== version) {
      const raw = cipher ? await cipher.newInvitation() : newGroupKey();
      const encrypted_name = await seal(await (cipher ? importNameKey : importGroupKey)(raw), '', 'group-name', name);
      const body = { encrypted_name, encrypted_group_key: await keys.wrap(raw) };
      Object.assign(attempt, { name, version, key: crypto.randomUUID(), raw, body });
    }
    const { key, raw, body } = /** @type {Required<Attempt>} */ (attempt);
    const id = await entering(async () => {
      const { group_id } = await ask(() => api.createGroup(body, { key }));
      await cipher?.found(group_id, raw);
      await keys.bring(group_id, raw, body.encrypted_name);
      return group_id;
    });
    await cipher?.flush(id);
    await sync();
    return id;
  }

  /**
   * Find the group of this member that a key opens, and unlock it if it is locked.
   *
   * @param {Bytes} raw
   * @returns {Promise<string | undefined>} The group's id.
   */
  async recognize(raw) {
    const { groups, keys } = this.#around;
    for (const group of groups.values()) {
      if (!(await keys.read(raw, group.sealedName))) continue;
      if (!group.key) await this.unlock(group, raw);
      return group.id;
    }
    return undefined;
  }

  /**
   * Join a group. With a wrong key, leave it at once and store nothing.
   *
   * @param {string} code
   * @param {Bytes} raw The group's key.
   * @param {string} [inviter] The id of the member who made the link.
   * @returns {Promise<string>} The group's id.
   */
  async join(code, raw, inviter) {
    const { entering, sync } = this.#around;
    try {
      // In another tab, which sees the group meanwhile, it would be entered without the inviter.
      const id = await entering(() => this.#join(code, raw, inviter));
      await sync();
      return id;
    } catch (error) {
      if (/** @type {any} */ (error).code !== 'ALREADY_MEMBER') throw error;
      await sync();
      const known = await this.recognize(raw);
      if (!known) throw new Error(WRONG_KEY);
      return known;
    }
  }

  /** @param {string} code @param {Bytes} raw @param {string} [inviter] */
  async #join(code, raw, inviter) {
    const { api, ask, keys, userId } = this.#around;
    const encrypted_group_key = await keys.wrap(raw);
    const { group_id, encrypted_name } = await ask(() => api.joinGroup({ invite_code: code, encrypted_group_key }));
    const found = await keys.read(raw, encrypted_name);
    if (!found) {
      await ask(() => api.removeMember(group_id, userId));
      throw new Error(WRONG_KEY);
    }
    const { version, key } = found;
    const move = version === 1 ? await ask(() => this.#around.versions.findMove({ id: group_id, key })) : undefined;
    await this.#enter(group_id, raw, encrypted_name, found, { move, ...(inviter && { inviter }) });
    return group_id;
  }

  /** Use a key for a locked group. @param {Group} group @param {Bytes} raw @throws {Error} When it does not open the group's name. */
  async unlock(group, raw) {
    const { keys, unlocked } = this.#around;
    const found = await keys.read(raw, group.sealedName);
    if (!found) throw new Error('This key does not open this group. Ask for the link again.');
    Object.assign(group, found, await this.#enter(group.id, raw, group.sealedName, found));
    await unlocked(group);
  }

  /**
   * Enter a group with this browser, and store its key. The key comes last: with it the group counts as entered.
   *
   * @param {string} groupId
   * @param {Bytes} raw
   * @param {string} sealedName
   * @param {import('./group-keys.js').Opened} found
   * @param {{inviter?: string, move?: import('./versions.js').Move | undefined}} [how]
   * @returns {Promise<{version: 1 | 2, moved: boolean}>}
   */
  async #enter(groupId, raw, sealedName, { key, version }, { inviter, move } = {}) {
    const { keys, versions } = this.#around;
    if (version === 1 && !move) {
      await keys.bring(groupId, raw, sealedName);
      return { version, moved: false };
    }
    const cipher = await versions.load();
    if (move) await cipher.follow(groupId, move, inviter);
    else await cipher.join(groupId, raw, inviter);
    if (move) await keys.moved(groupId, key);
    else await keys.bring(groupId, raw, sealedName);
    // What is written from now on has keys for this browser.
    await cipher.flush(groupId);
    return { version: 2, moved: move !== undefined };
  }

  /** Renew the keys of a group: it moves to version 2, whose keys change with every message. @param {Group} group Of version 1. */
  async renewKeys(group) {
    const { ask, unlocked, versions } = this.#around;
    await ask(() => versions.move(group));
    // The first in the log counts, which may be another member's.
    if (await ask(() => versions.hasMoved(group))) await unlocked(group);
  }

  /** Show a member what was written before they joined. @param {Group} group @param {string} userId */
  async showPast(group, userId) {
    const cipher = await this.#around.versions.load();
    await (await cipher.member()).shareHistory(group.id, userId);
    await cipher.flush(group.id);
  }

  /** Replace the invite code. @param {Group} group @param {{singleUse?: boolean, hours?: number}} [how] Valid for one person, or for so many hours. */
  async renewCode(group, how) {
    const { api, ask } = this.#around;
    const { invite_code, expires_at, single_use } = await ask(() => api.newInviteCode(group.id, how));
    group.code = invite_code;
    group.invite = { expiresAt: expires_at, singleUse: single_use };
  }

  /** What this member may do in a group. @param {Group} group @returns {import('./types.js').Member['role']} */
  roleIn({ members }) {
    return members.find(({ user_id }) => user_id === this.#around.userId)?.role ?? 'member';
  }

  /** Make a member an administrator of the group, or a plain member again. @param {Group} group @param {string} userId @param {'admin' | 'member'} role */
  async setRole(group, userId, role) {
    const { api, ask } = this.#around;
    await ask(() => api.setRole(group.id, userId, role));
    group.members = group.members.map((one) => (one.user_id === userId ? { ...one, role } : one));
  }

  /** Remove a member, and replace the invite code that they know. @param {Group} group @param {string} userId */
  async remove(group, userId) {
    const { api, ask, versions } = this.#around;
    // First, so that a server that hides the removal is noticed.
    if (group.version === 2) await (await versions.load()).revoke(group.id, userId);
    await ask(() => api.removeMember(group.id, userId));
    group.code = null;
    try {
      await this.renewCode(group);
    } catch (cause) {
      throw new Error('The member is removed, but the old invite code still works. Replace it: Invite, Replace the invite code.', {
        cause,
      });
    }
  }

  /** @param {Group} group */
  async leave(group) {
    const { api, ask, keys, userId, forget } = this.#around;
    await ask(() => api.removeMember(group.id, userId));
    await keys.delete(group.id);
    forget(group.id);
  }
}
