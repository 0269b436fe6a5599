/** Who has which device in groups of version 2: who admitted it, who is verified, and what is held back. */
import { fromBase64, toBase64, toBase64Url } from '../crypto/bytes.js';

/** @import {Member} from '../../vendor/e2ee.js' */
/** @import {Device} from './cipher-device.js' */

/**
 * What this browser is in a group:
 *
 * - `asks`: its record is on the way.
 * - `in`: the group gives it keys.
 * - `held`: another device of the same person must admit it.
 * - `revoked`: it was removed from the group.
 *
 * @typedef {'asks' | 'in' | 'held' | 'revoked'} Standing
 */
/**
 * Why nothing is sent until a person decides: at an event of that number this browser has another hash (`ours`) than a member, or than the server shows
 * now (`theirs`).
 *
 * @typedef {{code: string, seq: number, ours: string, theirs: string, by: string | undefined}} Stopped `by`: the member's id.
 */
/**
 * @typedef {object} Place
 * @property {Standing} standing
 * @property {string} number Of this browser.
 * @property {number} asking Other devices of this person that are held.
 * @property {Stopped | null} stopped
 */
/** @typedef {{device: number, number: string, here: boolean, by: 'found' | 'knock' | 'link' | 'accepted', suites: number}} KnownDevice */
/** @typedef {{device: number, number: string, here: boolean}} HeldDevice */
/**
 * @typedef {object} Person
 * @property {KnownDevice[]} devices
 * @property {HeldDevice[]} held They asked, and are given nothing.
 * @property {number | null} verifiedAtMs Null unless the safety number was compared, and no other key came since.
 * @property {string | null} safetyNumber Sixty digits; null for this member, and where there is no device to compare.
 * @property {string} scannable The same as the text of a QR code; empty where there is no number.
 */
/** @typedef {{code: string, userId: string, device: number, seq: number, atMs: number}} Warning */

/** @typedef {{userId: string, send: (groupId: string) => Promise<void>, changed: () => void}} Surroundings `send`: posts the records that wait, and takes them in. */

/** Digits of a device's number: 66 bits, so that nobody finds another key with the same. */
const NUMBER_DIGITS = 20;

/** @param {Uint8Array<ArrayBuffer>} identity @returns {Promise<string>} Twenty digits in blocks of five, for comparing two browsers of one person. */
async function numberOf(identity) {
  const hash = new Uint8Array(await crypto.subtle.digest('SHA-256', identity));
  const value = hash.slice(0, 16).reduce((sum, byte) => sum * 256n + BigInt(byte), 0n) % 10n ** BigInt(NUMBER_DIGITS);
  return (String(value).padStart(NUMBER_DIGITS, '0').match(/\d{5}/g) ?? []).join(' ');
}

/** @param {Uint8Array} bytes */
const hexOf = (bytes) => [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('');

/** Where the two halves stand in the 74 bytes of a scannable safety number: one's own, and the other person's. */
const [OWN, OTHER, HALF] = [6, 42, 32];

/**
 * Compare a scanned QR code with one's own.
 *
 * @param {string} own The `scannable` of a person.
 * @param {string} scanned
 * @returns {boolean | null} Whether both show one safety number; null when the scanned code holds none.
 */
export function matchesScan(own, scanned) {
  if (scanned.length !== own.length || !/^[\w-]*$/.test(scanned)) return null;
  const parts = [own, scanned].map((text) => {
    const bytes = fromBase64(text);
    const half = (/** @type {number} */ at) => toBase64(bytes.subarray(at, at + HALF));
    return { heads: [...bytes.subarray(0, OWN), ...bytes.subarray(OWN + HALF, OTHER)].join(), own: half(OWN), other: half(OTHER) };
  });
  const [mine, theirs] = /** @type {[typeof parts[0], typeof parts[0]]} */ (parts);
  return mine.heads === theirs.heads ? mine.own === theirs.other && mine.other === theirs.own : null;
}

/** The devices of the members of groups. */
export class CipherRoster {
  #open;
  #around;
  /** @type {Map<string, Place>} By group. */
  #places = new Map();

  /** @param {() => Promise<Device>} open @param {Surroundings} around */
  constructor(open, around) {
    this.#open = open;
    this.#around = around;
  }

  /** @returns {Promise<Member>} */
  async #member() {
    return (await this.#open()).member;
  }

  /** @param {string} groupId @returns {Place | undefined} Undefined until the group is loaded. */
  place(groupId) {
    return this.#places.get(groupId);
  }

  /** Look again at what this browser is in a group. @param {string} groupId */
  async load(groupId) {
    const member = await this.#member();
    const identity = await member.identity();
    const mine = toBase64(identity);
    const { devices, revoked } = await member.roster(groupId);
    const held = (await this.#held(groupId)).filter(({ user }) => user === this.#around.userId);
    /** @returns {Standing} */
    const standing = () => {
      if (devices.some((one) => toBase64(one.identity) === mine)) return 'in';
      if (revoked.includes(hexOf(identity))) return 'revoked';
      return held.some((one) => toBase64(one.identity) === mine) ? 'held' : 'asks';
    };
    const asking = held.filter((one) => toBase64(one.identity) !== mine).length;
    const { stopped } = await member.group(groupId);
    const why = stopped && { ...stopped, ours: stopped.ours ?? '', theirs: stopped.theirs ?? '', by: stopped.by };
    this.#places.set(groupId, { standing: standing(), number: await numberOf(identity), asking, stopped: why });
    this.#around.changed();
  }

  /** Look again where sending stopped, or continued in another tab. @param {string} groupId */
  async loadIfStopped(groupId) {
    const { stopped } = await (await this.#member()).group(groupId);
    const known = this.#places.get(groupId);
    if (known && Boolean(known.stopped) !== Boolean(stopped)) await this.load(groupId);
  }

  /** A person has looked at why sending stopped, and continues. @param {string} groupId */
  async resume(groupId) {
    await (await this.#member()).resume(groupId);
    await this.#around.send(groupId);
  }

  /**
   * The devices that asked and are held: each once, without those that were admitted or removed meanwhile.
   *
   * @param {string} groupId
   * @returns {Promise<{user: string, device: number, identity: Uint8Array<ArrayBuffer>, suites: number}[]>}
   */
  async #held(groupId) {
    const { devices, revoked, warnings } = await (await this.#member()).roster(groupId);
    const done = new Set(devices.map(({ identity }) => toBase64(identity)));
    const found = new Map();
    for (const { code, user, device, identity, suites = 0 } of warnings) {
      if (code !== 'held_device' || !identity || done.has(toBase64(identity))) continue;
      const hex = hexOf(identity);
      if (!revoked.includes(hex)) found.set(hex, { user, device, identity, suites });
    }
    return [...found.values()];
  }

  /** @param {string} groupId @param {string} userId @returns {Promise<Person>} */
  async person(groupId, userId) {
    const member = await this.#member();
    const { devices } = await member.roster(groupId);
    const own = toBase64(await member.identity());
    const here = (/** @type {Uint8Array} */ identity) => toBase64(identity) === own;
    const known = devices.filter(({ user }) => user === userId).sort((a, b) => a.device - b.device);
    const held = (await this.#held(groupId)).filter(({ user }) => user === userId);
    const comparable = known.length > 0 && userId !== this.#around.userId && devices.some(({ user }) => user === this.#around.userId);
    const number = comparable ? await member.safetyNumber(groupId, userId) : null;
    return {
      devices: await Promise.all(
        known.map(async ({ device, identity, by, suites }) => ({
          ...{ device, by, suites, here: here(identity) },
          number: await numberOf(identity),
        })),
      ),
      held: await Promise.all(
        held.map(async ({ device, identity }) => ({ device, here: here(identity), number: await numberOf(identity) })),
      ),
      verifiedAtMs: await this.#verifiedAt(groupId, userId),
      safetyNumber: number?.digits ?? null,
      scannable: number ? toBase64Url(number.scannable) : '',
    };
  }

  /** @param {string} groupId @param {string} userId @returns {Promise<number | null>} */
  async #verifiedAt(groupId, userId) {
    const { member, store } = await this.#open();
    const row = /** @type {{at: number} | undefined} */ (await store.get('identities', `verified/${userId}`));
    if (!row) return null;
    // All keys of the person are others since: what was compared is gone.
    const returned = (await member.warnings(groupId)).some(
      ({ code, user, at }) => code === 'returned_person' && user === userId && at >= row.at,
    );
    return returned ? null : row.at;
  }

  /** @param {string} groupId @returns {Promise<Map<string, {devices: number, verified: boolean}>>} Everybody who has a device in the group, by their id. */
  async everybody(groupId) {
    const { devices } = await (await this.#member()).roster(groupId);
    const found = new Map();
    for (const { user } of devices) {
      const verified = found.get(user)?.verified ?? (await this.#verifiedAt(groupId, user)) !== null;
      found.set(user, { devices: (found.get(user)?.devices ?? 0) + 1, verified });
    }
    return found;
  }

  /** The safety number was compared. @param {string} userId */
  async verify(userId) {
    await (await this.#member()).verify(userId);
    this.#around.changed();
  }

  /**
   * Admit a held device: a `link` that this browser signs for one of the same person, whom it then gives what it can read itself; for a device of
   * somebody else, this browser's own decision.
   *
   * @param {string} groupId
   * @param {string} userId
   * @param {string} number The number that was compared: no other key than this one is admitted.
   * @throws When it does not ask any more, or the server gave it the number of another device of the person.
   */
  async admit(groupId, userId, number) {
    const member = await this.#member();
    const { devices } = await member.roster(groupId);
    for (const one of await this.#held(groupId)) {
      if (one.user !== userId || (await numberOf(one.identity)) !== number) continue;
      // It would take the place of the other one.
      if (devices.some(({ user, device }) => user === userId && device === one.device))
        throw new Error(`It has the number of another device, ${one.device}. Remove that one first.`);
      if (userId !== this.#around.userId) await member.accept(groupId, userId, one.device, one.identity);
      else {
        await member.link(groupId, one);
        await this.#around.send(groupId);
        await member.shareHistory(groupId, userId);
      }
      return this.#around.send(groupId);
    }
    throw new Error('This device does not ask any more.');
  }

  /** Remove a device of this member from a group: it is given no keys any more. @param {string} groupId @param {number} device */
  async remove(groupId, device) {
    await (await this.#member()).revoke(groupId, this.#around.userId, device);
    await this.#around.send(groupId);
  }

  /** @param {string} groupId @returns {Promise<Warning[]>} What was held back or found wrong, the latest first. */
  async warnings(groupId) {
    const found = await (await this.#member()).warnings(groupId);
    return found.map(({ code, user, device, seq, at }) => ({ code, device, seq, userId: user, atMs: at })).reverse();
  }
}
