/** Enrolment of a device in groups: its keys in the directory, joining, and the roster. */
import { random, toHex, uuidBytes } from './bytes.js';
import { E2eeError } from './errors.js';
import { nextSecret, writeRecord } from './formats/records.js';
import { HPKE_STOCK } from './hpke-delivery.js';
import { readWaiting } from './contents.js';
import { founderHash, writeInvite } from './invite.js';
import { followRoster } from './keys.js';
import { noteMember } from './newcomers.js';
// biome-ignore format: a list is read across the line
import {
  addRecord, dropChain, enqueue, getSecret, loadGroup, loadMembers, loadRecords, loadRoster, newKey, outbox, putAccepted, putSecret, refold, seenKey, warn,
} from './state.js';
import { transact } from './unit.js';

/** @import { Bytes } from './bytes.js' */
/** @import { Address } from './formats/envelope.js' */
/** @import { RecordBody } from './formats/records.js' */
/** @import { Invite } from './invite.js' */
/** @import { Ratchet, Relay, Store } from './ports.js' */
/** @import { LoggedRecord, Roster } from './roster.js' */
/** @import { Context, GroupState } from './state.js' */
/** @import { Unit } from './unit.js' */

/**
 * Where a device begins that comes into a group whose log it has not read from the start.
 *
 * @typedef {object} Start
 * @property {{seq: number, hash: string}} position The last event before the first that `receive` will get.
 * @property {number} epoch
 * @property {string[]} members
 * @property {LoggedRecord[]} records All of the group, in order.
 */

/** What a device does about itself and about the devices of its groups. It receives and sends nothing. */
export class Enrolment {
  /** @internal @type {Context} */
  cx;

  /**
   * @param {object} options
   * @param {Store} options.store
   * @param {Ratchet} options.ratchet
   * @param {Relay} options.relay
   * @param {string} options.user A UUID.
   * @param {number} options.device 1 to 127; 0 asks the directory for the next free number when keys are published first.
   * @param {string} [options.chainName] Each tab has its own: two tabs never share a chain.
   * @param {boolean} [options.inbox] List what other devices sent as unhandled until `handled` is called.
   * @param {boolean} [options.keepFrames] Keep every frame as it was received, so that `audit` can export a group's log; the store grows with the log.
   * @param {() => number} [options.now] Milliseconds since the Unix epoch.
   */
  constructor({ store, ratchet, relay, user, device, chainName = 'main', inbox = false, keepFrames = false, now = Date.now }) {
    this.cx = { store, ratchet, relay, me: { user, device }, chainName, inbox, keepFrames, now };
  }

  /** @returns {Address} */
  get me() {
    return this.cx.me;
  }

  /** @protected @template T @param {(unit: Unit) => Promise<T>} work @param {{durable?: boolean}} [options] @returns {Promise<T>} */
  transact(work, options) {
    return transact(this.cx.store, work, options);
  }

  // Keys and identity

  /**
   * Make one-time keys and offer them in the directory.
   *
   * @param {number} [wanted] One-time keys to make; what a `keys_low` says is missing.
   */
  async publishKeys(wanted = HPKE_STOCK) {
    const body = await this.transact((unit) => this.cx.ratchet.publish(unit, this.me, this.cx.now(), wanted), { durable: true });
    const { device } = await this.cx.relay.putKeys(body);
    await this.transact(async (unit) => {
      unit.put('meta', 'published', this.cx.now());
      unit.put('meta', 'device', device);
    });
    this.cx.me = { ...this.me, device };
  }

  /** @returns {Promise<number | null>} When keys were last offered in the directory, milliseconds since the Unix epoch; null before that. */
  publishedAt() {
    return this.transact(async (unit) => (await unit.get('meta', 'published')) ?? null);
  }

  /** @returns {Promise<Bytes>} The identity key of this device, 33 bytes. */
  identity() {
    return this.transact(async (unit) => (await this.cx.ratchet.identity(unit)).publicKey);
  }

  // Coming into a group

  /**
   * Found a group that the server has just made.
   *
   * @param {string} group
   * @param {{history?: number, secret?: Bytes}} [options] `history`: HISTORY_POLICY. `secret`: the invite secret, 16 random bytes, where something was
   *   sealed under it before the group had an id.
   */
  async found(group, { history = 0, secret = random(16) } = {}) {
    const { me, ratchet } = this.cx;
    await this.transact(async (unit) => {
      const signer = await ratchet.identity(unit);
      await this.#begin(unit, group, { secret, founder: await founderHash(signer.publicKey) }, { inviter: null, number: 0 });
      await this.#record(unit, group, { kind: 'found', ...me, identity: signer.publicKey, suites: ratchet.suites, history });
    });
  }

  /**
   * Enter a group by an invite, with this person's first device.
   *
   * @param {string} group
   * @param {Invite} invite
   * @param {{inviter?: string, secretNumber?: number, start?: Start}} [options] `inviter`: the person who gave the invite, if known.
   */
  async join(group, invite, { inviter, secretNumber = 0, start } = {}) {
    const { me, ratchet } = this.cx;
    // Entered and asking in one transaction: a device that is ended between them would never ask.
    await this.transact(async (unit) => {
      await this.#enter(unit, group, invite, inviter ?? null, secretNumber, start);
      const { publicKey } = await ratchet.identity(unit);
      await this.#record(unit, group, { kind: 'knock', ...me, identity: publicKey, suites: ratchet.suites, secretNumber }, invite.secret);
    });
  }

  /**
   * Enter a group as a further device of a person; an older device signs the `link`.
   *
   * @param {string} group
   * @param {Invite} invite
   * @param {{secretNumber?: number, start?: Start}} [options]
   */
  enterLinked(group, invite, { secretNumber = 0, start } = {}) {
    return this.transact((unit) => this.#enter(unit, group, invite, this.me.user, secretNumber, start));
  }

  /** @param {Unit} unit @param {string} group @param {Invite} invite @param {string | null} inviter @param {number} number @param {Start} [start] */
  async #enter(unit, group, invite, inviter, number, start) {
    await this.#begin(unit, group, invite, { inviter, number });
    if (!start) return;
    const { position, epoch, members, records } = start;
    unit.put('groups', group, { ...(await loadGroup(unit, group)), position, epoch });
    for (const record of records) await addRecord(unit, group, record);
    await refold(unit, group);
    for (const user of members) await noteMember(unit, this.cx, group, user, epoch);
  }

  /**
   * Continue behind events that the server no longer keeps. What is known of the roster stays: the server can add records, and take none back.
   *
   * Content of the gap is not read. The own chains are thrown away, since a copy of this store may have sent in the gap.
   *
   * @param {string} group
   * @param {Start} start
   * @throws {E2eeError} `out_of_order` when it is not behind the position: the log was replaced by an older one.
   */
  skipTo(group, { position, epoch, members, records }) {
    return this.transact(async (unit) => {
      const state = await loadGroup(unit, group);
      const { seq } = state.position;
      if (position.seq < seq)
        throw new E2eeError(
          'out_of_order',
          `the log of ${group} ends at ${position.seq}, and ${seq} was processed: the server has an older log`,
          {
            expected: seq + 1,
          },
        );
      unit.put('groups', group, { ...state, position, epoch, removals: state.removals.filter(({ user }) => members.includes(user)) });
      for (const user of await loadMembers(unit, group)) if (!members.includes(user)) unit.delete('members', `${group}/${user}`);
      const known = new Set((await loadRecords(unit, group)).map((record) => record.seq));
      for (const record of records) if (!known.has(record.seq) && record.seq <= position.seq) await addRecord(unit, group, record);
      await refold(unit, group);
      for (const [key] of await unit.list('own', `${group}/`)) await dropChain(unit, this.cx, key);
      const present = await loadMembers(unit, group);
      for (const user of members) if (!present.has(user)) await noteMember(unit, this.cx, group, user, epoch);
      // The events of these posts are in the gap.
      for (const [key, row] of await unit.list('outbox', outbox.posted(group))) if (row.posted <= position.seq) unit.delete('outbox', key);
      if (seq > 0) warn(unit, this.cx, { group, seq: position.seq, code: 'gap', user: '', device: 0, details: { after: seq } });
      await followRoster(unit, this.cx, group, readWaiting);
    });
  }

  /** @param {Unit} unit @param {string} group @param {Invite} invite @param {{inviter: string | null, number: number}} how */
  async #begin(unit, group, { secret, founder }, { inviter, number }) {
    uuidBytes(group);
    if (await unit.get('groups', group)) throw new E2eeError('conflict', `group ${group} is known here already`);
    /** @type {GroupState} */
    const state = { position: { seq: 0, hash: '' }, epoch: 0, founder, inviter, stopped: null, removals: [] };
    unit.put('groups', group, state);
    putSecret(unit, group, number, secret);
  }

  /** @param {Unit} unit @param {string} group @param {RecordBody} body @param {Bytes} [secret] Proves a knock. */
  async #record(unit, group, body, secret) {
    const record = await writeRecord(group, body, secret ?? (await this.cx.ratchet.identity(unit)));
    await enqueue(unit, group, { kind: 'record', id: newKey(), record });
  }

  /** @param {string} group @returns {Promise<{text: string, secretNumber: number}>} The part of an invite link after the `#`. */
  invite(group) {
    return this.transact(async (unit) => {
      const [{ founder }, { secretNumber }] = [await loadGroup(unit, group), await loadRoster(unit, group)];
      const secret = await getSecret(unit, group, secretNumber);
      if (!secret) throw new E2eeError('not_found', `invite secret ${secretNumber} of ${group} has not reached this device yet`);
      return { text: writeInvite({ secret, founder }), secretNumber };
    });
  }

  // The roster

  /** @param {string} group @param {Address & {identity: Bytes, suites: number}} added A further device of this person. */
  link(group, { device, identity, suites }) {
    return this.transact((unit) =>
      this.#record(unit, group, { kind: 'link', user: this.me.user, device, identity, suites, byDevice: this.me.device }),
    );
  }

  /**
   * Revoke a device, or every device of a person.
   *
   * @param {string} group
   * @param {string} user
   * @param {number} [device] 0: all.
   * @param {{removed?: boolean}} [options] `removed`: the server is asked to remove the person too; a `member_left` that does not come is warned of.
   */
  revoke(group, user, device = 0, { removed = false } = {}) {
    return this.transact(async (unit) => {
      await this.#record(unit, group, { kind: 'revoke', user, device, byUser: this.me.user, byDevice: this.me.device });
      const state = await loadGroup(unit, group);
      if (removed) unit.put('groups', group, { ...state, removals: [...state.removals, { user, since: this.cx.now() }] });
    });
  }

  /** @param {string} group @param {{history: number, rotationDays: number}} policy */
  setPolicy(group, { history, rotationDays }) {
    return this.transact((unit) => this.#record(unit, group, { kind: 'policy', history, rotationDays, byDevice: this.me.device }));
  }

  /** @param {string} group Replace the invite secret: invites of before prove nothing any more. The new one travels to every device. */
  renewSecret(group) {
    return this.transact(async (unit) => {
      const { secretNumber, devices } = await loadRoster(unit, group);
      const present = await getSecret(unit, group, secretNumber);
      if (!present) throw new E2eeError('not_found', `invite secret ${secretNumber} of ${group} has not reached this device yet`);
      const { secret, earlier } = await nextSecret(group, present);
      putSecret(unit, group, secretNumber + 1, secret);
      const by = { byUser: this.me.user, byDevice: this.me.device };
      await this.#record(unit, group, { kind: 'secret', number: secretNumber + 1, ...by, earlier });
      for (const { user, device, identity } of devices) {
        if (user === this.me.user && device === this.me.device) continue;
        const row = { to: { user, device }, identity: toHex(identity), history: [], secret: true, notBefore: 0 };
        await enqueue(unit, group, { kind: 'deliver', id: newKey(), ...row });
      }
    });
  }

  /** @param {string} group @param {string} user @param {number} device @param {Bytes} identity Accept a held device: this person's own decision. */
  accept(group, user, device, identity) {
    return this.transact(async (unit) => {
      putAccepted(unit, group, user, device, identity);
      await refold(unit, group);
      await followRoster(unit, this.cx, group, readWaiting);
    });
  }

  /** @param {string} group @returns {Promise<Roster>} */
  roster(group) {
    return this.transact((unit) => loadRoster(unit, group));
  }

  /** @param {string} group @returns {Promise<string[]>} Members whom nobody of the group has admitted: they are given nothing. */
  strangers(group) {
    return this.transact(async (unit) => {
      const { devices } = await loadRoster(unit, group);
      return [...(await loadMembers(unit, group))].filter((user) => !devices.some((one) => one.user === user)).sort();
    });
  }

  /**
   * Compare the server's directory with the roster, and warn of every difference. Devices that were not seen for 90 days are given nothing from now on.
   *
   * @param {string} group
   * @returns {Promise<{strangers: Address[], differing: Address[]}>}
   */
  async checkDirectory(group) {
    const listed = await this.cx.relay.devices(group);
    return this.transact(async (unit) => {
      const [{ devices }, { position }] = [await loadRoster(unit, group), await loadGroup(unit, group)];
      /** @type {{strangers: Address[], differing: Address[]}} */
      const found = { strangers: [], differing: [] };
      for (const { user, device, identity, seenAt } of listed) {
        unit.put('identities', seenKey(group, { user, device }), seenAt);
        const known = devices.find((one) => one.user === user && one.device === device);
        if (known && toHex(known.identity) === toHex(identity)) continue;
        found[known ? 'differing' : 'strangers'].push({ user, device });
        warn(unit, this.cx, { group, seq: position.seq, code: known ? 'identity_differs' : 'unknown_device', user, device, details: {} });
      }
      return found;
    });
  }
}
