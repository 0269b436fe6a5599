/** Linking: a device of a person admits a new device of the same person, by a code that the new one shows. */
import { fromBase64, random, toBase64, toHex } from './bytes.js';
import { isLeftForLater } from './delivering.js';
import { E2eeError, isCode } from './errors.js';
// biome-ignore format: a list is read across the line
import {
  MAX_LINK_GROUPS, linkCodeText, linkNumber, linkPoint, mailboxName, openLink, readLinkCode, sealLink, writeLinkCode,
} from './formats/link.js';
import { writeRecord } from './formats/records.js';
import { NEW_DEVICE, OLD_DEVICE, linkRow } from './link-machine.js';
import { findDevice } from './roster.js';
import { enqueue, getSecret, loadGroup, loadRoster, newKey, putSecret, refold } from './state.js';
import { transact } from './unit.js';

/** @import { Bytes } from './bytes.js' */
/** @import { LinkBody, LinkCode, LinkGroup } from './formats/link.js' */
/** @import { NewInput, OldInput } from './link-machine.js' */
/** @import { Member } from './member.js' */
/** @import { Roster } from './roster.js' */
/** @import { Sdk } from './sdk-relay.js' */
/** @import { Context, GroupState } from './state.js' */
/** @import { Unit } from './unit.js' */

export { MAX_LINK_GROUPS, readLinkCode } from './formats/link.js';

/** How long a code can be used, in milliseconds: as long as the server keeps a mailbox. */
export const CODE_MS = 10 * 60 * 1000;
/** The shortest time between two looks into a mailbox, in milliseconds: an address may look 60 times a minute. */
export const LOOK_MS = 2_000;

/**
 * The server's mailboxes. Each holds one message.
 *
 * @typedef {object} Mailboxes
 * @property {() => Promise<Bytes>} open A new mailbox's name, 16 bytes.
 * @property {(name: string, message: Bytes) => Promise<void>} put Rejects with E2eeError `conflict` when another message is in it, `not_found` when
 *   it is gone.
 * @property {(name: string, options: {signal?: AbortSignal | undefined}) => Promise<Bytes | null>} read Waits; null when no message came in time.
 *   Rejects with E2eeError `not_found` when it is gone.
 */

/** @typedef {{state: 'offered' | 'received', code: Bytes, scalar: Bytes, until: number, sealed?: Bytes}} Offer The new device's row. */
/** @typedef {{code: Bytes, sealed: Bytes, device: number, identity: Bytes, suites: number, groups: string[]}} Admission The older device's row. */
/** @typedef {{number: string, groups: string[]}} Linked `number`: six digits that both devices show; `groups`: those that the new device may read. */

const MAILBOX_BYTES = 16;
const OFFER = 'link/offer';
const ADMISSION = 'link/admission';

/**
 * Linking on either device. Everything is in the device's store, so a program that is killed continues where it was, or begins again.
 *
 * The new device: `offer`, show the code, `receive`, let a person compare the number, then `accept` or `decline`.
 * The older one: `inspect` the code, let a person confirm it, `admit`; after a restart `resume`.
 */
export class DeviceLink {
  /** @type {Context} */
  #cx;
  #member;
  #mailboxes;

  /** @param {Member} member This device; its keys are in the directory. @param {Mailboxes} mailboxes */
  constructor(member, mailboxes) {
    this.#cx = member.cx;
    this.#member = member;
    this.#mailboxes = mailboxes;
  }

  // The new device

  /**
   * Open a mailbox and return the code to show. A code that can still be used is returned again.
   *
   * @returns {Promise<{code: string, until: number}>} `until`: in milliseconds since the Unix epoch.
   */
  async offer() {
    const cx = this.#cx;
    const known = await this.#offered();
    const usable = known?.state === 'offered' && cx.now() < known.until;
    const { to: state } = linkRow(NEW_DEVICE, known?.state ?? 'idle', usable ? 'shown' : 'open');
    if (usable) return { code: linkCodeText(known.code), until: known.until };
    const until = cx.now() + CODE_MS;
    const mailbox = await this.#mailboxes.open();
    if (mailbox.length !== MAILBOX_BYTES) throw new E2eeError('malformed', `the server named a mailbox of ${mailbox.length} bytes, not 16`);
    const [scalar, secret] = [random(32), random(16)];
    const { publicKey } = await transact(cx.store, (unit) => cx.ratchet.identity(unit), { durable: true });
    const fields = { ...cx.me, mailbox, suites: cx.ratchet.suites, identity: publicKey, point: await linkPoint(scalar), secret };
    const code = await writeLinkCode(fields);
    const row = /** @type {Offer} */ ({ state, code, scalar, until });
    await transact(cx.store, async (unit) => unit.put('meta', OFFER, row), { durable: true });
    return { code: linkCodeText(code), until };
  }

  /**
   * Wait for the older device's message. Nothing is entered before `accept`.
   *
   * @param {{signal?: AbortSignal}} [options]
   * @returns {Promise<Linked>}
   * @throws {E2eeError} `not_found` when no code is shown, or it has expired; `cannot_open`, `conflict`, `bad_signature`, `malformed` when the
   *   message is not one for this code: the code is deleted, and a new one is needed.
   */
  async receive({ signal } = {}) {
    const row = await this.#offered();
    if (!row) throw new E2eeError('not_found', 'no code is shown: make one first');
    const code = await readLinkCode(linkCodeText(row.code));
    let kept;
    let body;
    try {
      kept = row.sealed ?? (await this.#wait(code, row.until, signal));
      body = await this.#read(code, row.scalar, kept);
    } catch (error) {
      if (!(error instanceof E2eeError)) throw error;
      return this.#forget(row.state === 'received' ? 'declined' : error.code === 'not_found' ? 'expired' : 'foreign', error);
    }
    const message = kept;
    await transact(
      this.#cx.store,
      async (unit) => {
        const present = /** @type {Offer | undefined} */ (await unit.get('meta', OFFER));
        if (present?.state !== 'offered' || toHex(present.code) !== toHex(row.code)) return;
        unit.put('meta', OFFER, { ...present, state: linkRow(NEW_DEVICE, 'offered', 'mail').to, sealed: message });
      },
      { durable: true },
    );
    return { number: await linkNumber(row.code, message), groups: body.groups.map(({ group }) => group) };
  }

  /**
   * A person has compared the number: enter the groups, all or none.
   *
   * @returns {Promise<string[]>} The groups; each can be opened now, and is readable once the older device's `link` is in its log.
   * @throws {E2eeError} `not_found` when no message was received; `conflict` when a group is known here with another founder.
   */
  async accept() {
    const cx = this.#cx;
    const row = await this.#offered();
    linkRow(NEW_DEVICE, row?.state ?? 'idle', 'confirmed');
    const { code, scalar, sealed } = /** @type {Offer & {sealed: Bytes}} */ (row);
    const { groups, verified } = await this.#read(await readLinkCode(linkCodeText(code)), scalar, sealed);
    return transact(
      cx.store,
      async (unit) => {
        for (const group of groups) await enter(unit, cx, group);
        for (const user of verified) if (user !== cx.me.user) unit.put('identities', `verified/${user}`, { at: cx.now() });
        unit.delete('meta', OFFER);
        return groups.map(({ group }) => group);
      },
      { durable: true },
    );
  }

  /** The numbers differ, or a person ends it: nothing of the code stays. @returns {Promise<void>} */
  async decline() {
    await transact(this.#cx.store, async (unit) => unit.delete('meta', OFFER), { durable: true });
  }

  /** @returns {Promise<Offer | undefined>} */
  #offered() {
    return transact(this.#cx.store, (unit) => unit.get('meta', OFFER));
  }

  /** @param {NewInput} on @param {E2eeError} error @returns {Promise<never>} */
  async #forget(on, error) {
    await transact(this.#cx.store, async (unit) => {
      const row = await unit.get('meta', OFFER);
      if (row && linkRow(NEW_DEVICE, row.state, on).does === 'forget') unit.delete('meta', OFFER);
    });
    throw error;
  }

  /** @param {LinkCode} code @param {number} until @param {AbortSignal} [signal] @returns {Promise<Bytes>} */
  async #wait({ mailbox }, until, signal) {
    const { now } = this.#cx;
    while (now() < until) {
      signal?.throwIfAborted();
      const since = Date.now();
      try {
        const found = await this.#mailboxes.read(mailboxName(mailbox), { signal });
        if (found) return found;
      } catch (error) {
        if (isCode(error, 'not_found')) break;
        if (/** @type {any} */ (error)?.retryable !== true) throw error;
      }
      // A server that answers at once must not be asked in a loop.
      await new Promise((resolve) => setTimeout(resolve, Math.max(0, LOOK_MS - (Date.now() - since))));
    }
    throw new E2eeError('not_found', 'the code has expired: show a new one');
  }

  /** @param {LinkCode & {bytes: Bytes}} code @param {Bytes} scalar @param {Bytes} sealed @returns {Promise<LinkBody>} */
  async #read(code, scalar, sealed) {
    const body = await openLink(code, scalar, sealed);
    const { me } = this.#cx;
    if (body.user !== me.user) throw new E2eeError('conflict', 'the message is of a device of another person');
    if (body.device === me.device || toHex(body.identity) === toHex(code.identity))
      throw new E2eeError('conflict', 'the message names this device as the one that made it');
    return body;
  }

  // The older device

  /**
   * Read a code and say what admitting its device means. Nothing is sent.
   *
   * @param {string} text
   * @returns {Promise<{device: number, identity: Bytes, groups: string[]}>} `groups`: those that the new device would be admitted to.
   * @throws {E2eeError} `malformed` for a wrong code, `unsupported`; `conflict` when it is of another account, of this device, has the number of
   *   another device, or was revoked; `not_found` when this device is in no group, or a group's secret has not arrived.
   */
  async inspect(text) {
    const code = await readLinkCode(text);
    const groups = await transact(this.#cx.store, (unit) => handedOver(unit, this.#cx, code));
    return { device: code.device, identity: code.identity, groups: groups.map(({ group }) => group) };
  }

  /**
   * A person has confirmed a code: hand the groups over, and admit the device to each of them.
   *
   * @param {string} text The code.
   * @returns {Promise<Linked>} When the server has the message; the records are sent, or wait in the outbox of each group.
   * @throws {E2eeError} As `inspect`; `bad_key` when the directory has another identity for the device, `not_found` when it has none, or the code has
   *   expired; `conflict` when the code was used. Nothing is linked then.
   * @throws What the mailboxes reject with when the server cannot be reached: `resume` continues.
   */
  async admit(text) {
    const cx = this.#cx;
    const code = await readLinkCode(text);
    const pending = await this.#admission();
    if (pending && toHex(pending.code) === toHex(code.bytes)) return this.#post(pending, 'again');
    const groups = await transact(cx.store, (unit) => handedOver(unit, cx, code));
    await this.#checkListed(code, /** @type {LinkGroup} */ (groups[0]).group);
    const row = await transact(
      cx.store,
      async (unit) => {
        const content = { ...cx.me, identity: (await cx.ratchet.identity(unit)).publicKey, groups, verified: await verifiedUsers(unit) };
        const sealed = await sealLink(code, content, await cx.ratchet.identity(unit));
        const { bytes, device, identity, suites } = code;
        /** @type {Admission} */
        const made = { code: bytes, sealed, device, identity, suites, groups: groups.map(({ group }) => group) };
        unit.put('meta', ADMISSION, made);
        return made;
      },
      { durable: true },
    );
    return this.#post(row, 'code');
  }

  /**
   * Continue an admission that a kill or a lost connection interrupted.
   *
   * @returns {Promise<Linked | null>} Null when there is none.
   * @throws As `admit`.
   */
  async resume() {
    const row = await this.#admission();
    return row ? this.#post(row, 'again') : null;
  }

  /** @returns {Promise<Admission | undefined>} */
  #admission() {
    return transact(this.#cx.store, (unit) => unit.get('meta', ADMISSION));
  }

  /** @param {LinkCode} code @param {string} group @returns {Promise<void>} */
  async #checkListed({ user, device, identity }, group) {
    const listed = (await this.#cx.relay.devices(group)).find((one) => one.user === user && one.device === device);
    if (!listed) throw new E2eeError('not_found', `the directory has no device ${device} of yours: log in on the new device first`);
    if (toHex(listed.identity) !== toHex(identity))
      throw new E2eeError(
        'bad_key',
        `the directory has another identity for device ${device} than the code: do not link it, the server may lie`,
      );
  }

  /** @param {Admission} row @param {OldInput} on @returns {Promise<Linked>} */
  async #post(row, on) {
    const cx = this.#cx;
    linkRow(OLD_DEVICE, on === 'code' ? 'idle' : 'sending', on);
    const { mailbox } = await readLinkCode(linkCodeText(row.code));
    try {
      await this.#mailboxes.put(mailboxName(mailbox), row.sealed);
    } catch (error) {
      const [taken, gone] = [isCode(error, 'conflict'), isCode(error, 'not_found')];
      if (!taken && !gone) throw error;
      linkRow(OLD_DEVICE, 'sending', taken ? 'taken' : 'gone');
      await transact(cx.store, async (unit) => unit.delete('meta', ADMISSION), { durable: true });
      if (gone) throw new E2eeError('not_found', 'the code has expired, and nothing was linked: show a new one on the new device');
      throw new E2eeError('conflict', 'the code was used before, and nothing was linked: show a new one on the new device');
    }
    linkRow(OLD_DEVICE, 'sending', 'delivered');
    await transact(
      cx.store,
      async (unit) => {
        if (!(await unit.get('meta', ADMISSION))) return;
        const { user, device: byDevice } = cx.me;
        const { device, identity, suites } = row;
        for (const group of row.groups) {
          const present = findDevice(await loadRoster(unit, group), user, device);
          if (present && toHex(present.identity) === toHex(identity)) continue;
          const body = /** @type {const} */ ({ kind: 'link', user, device, identity, suites, byDevice });
          const record = await writeRecord(group, body, await cx.ratchet.identity(unit));
          await enqueue(unit, group, { kind: 'record', id: newKey(), record });
        }
        unit.delete('meta', ADMISSION);
      },
      { durable: true },
    );
    for (const group of row.groups) {
      try {
        await this.#member.flush(group);
      } catch (error) {
        // The records stay in the outbox, and each group sends its own when it is open.
        if (!isLeftForLater(error)) throw error;
      }
    }
    return { number: await linkNumber(row.code, row.sealed), groups: row.groups };
  }
}

/**
 * What this device hands over to the device of a code.
 *
 * @param {Unit} unit
 * @param {Context} cx
 * @param {LinkCode} code
 * @returns {Promise<LinkGroup[]>} At least one.
 */
async function handedOver(unit, { me, ratchet }, { user, device, identity }) {
  if (user !== me.user) throw new E2eeError('conflict', 'the code is of another account: only devices of one person are linked');
  if (device === me.device || toHex(identity) === toHex((await ratchet.identity(unit)).publicKey))
    throw new E2eeError('conflict', `the code names device ${device}, which is this one: read it on another device of yours`);
  const groups = [];
  for (const [group] of await unit.list('groups')) {
    const roster = /** @type {Roster} */ (await loadRoster(unit, group));
    if (!findDevice(roster, me.user, me.device)) continue;
    const present = findDevice(roster, user, device);
    if (present && toHex(present.identity) !== toHex(identity))
      throw new E2eeError('conflict', `device ${device} of yours is another one in a group: revoke it there first, then show a new code`);
    if (roster.revoked.includes(toHex(identity)))
      throw new E2eeError('conflict', 'the device of the code was revoked: it needs a new store, and with it a new identity');
    const { founder } = /** @type {GroupState} */ (await loadGroup(unit, group));
    const secret = await getSecret(unit, group, roster.secretNumber);
    if (!secret)
      throw new E2eeError('not_found', `invite secret ${roster.secretNumber} of ${group} has not reached this device yet: try again later`);
    groups.push({ group, founder, secret, secretNumber: roster.secretNumber });
  }
  if (groups.length === 0) throw new E2eeError('not_found', 'this device is in no group: there is nothing to hand over');
  if (groups.length > MAX_LINK_GROUPS)
    throw new E2eeError('unsupported', `this device is in ${groups.length} groups, and one code hands over ${MAX_LINK_GROUPS}`);
  return groups;
}

/** @param {Unit} unit @returns {Promise<string[]>} */
const verifiedUsers = async (unit) =>
  (await unit.list('identities', 'verified/')).map(([key]) => key.slice('verified/'.length)).slice(0, 1024);

/** @param {Unit} unit @param {Context} cx @param {LinkGroup} handed */
async function enter(unit, { me }, { group, founder, secret, secretNumber }) {
  const known = /** @type {GroupState | undefined} */ (await unit.get('groups', group));
  if (known && toHex(known.founder) !== toHex(founder))
    throw new E2eeError(
      'conflict',
      `group ${group} has another founder here than the message says: do not link, and compare safety numbers`,
    );
  /** @type {GroupState} */
  const entered = { position: { seq: 0, hash: '' }, epoch: 0, founder, inviter: me.user, stopped: null, removals: [] };
  if (!known) unit.put('groups', group, entered);
  putSecret(unit, group, secretNumber, secret);
  await refold(unit, group);
}

/**
 * The mailboxes of a server, by a client of the SDK.
 *
 * @param {Pick<Sdk, 'api'>} orbital
 * @returns {Mailboxes}
 */
export function sdkMailboxes({ api }) {
  /** @template T @param {Promise<T>} asked @returns {Promise<T>} */
  const named = (asked) =>
    asked.catch((error) => {
      if (error.code === 'NOT_FOUND') throw new E2eeError('not_found', error.message);
      if (error.code === 'CONFLICT') throw new E2eeError('conflict', error.message);
      throw error;
    });
  return {
    open: async () => fromBase64((await api.openMailbox()).mailbox),
    put: (name, message) => named(api.fillMailbox(name, toBase64(message))),
    read: async (name, { signal }) => {
      const found = await named(api.readMailbox(name, { ...(signal && { signal }) }));
      if (found === undefined) return null;
      try {
        return fromBase64(found);
      } catch {
        throw new E2eeError('malformed', 'the message in the mailbox is not base64');
      }
    },
  };
}
