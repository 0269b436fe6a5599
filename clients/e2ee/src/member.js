/** A device as a member of groups: the package's public face. */
import { writeAudit } from './audit.js';
import { copy, random } from './bytes.js';
import { Enrolment } from './enrolment.js';
import { shareHistory } from './history.js';
import { itemKey } from './contents.js';
import { receive } from './inbound.js';
import { flush } from './outbound.js';
import { dueRequests } from './repair.js';
import { safetyNumber } from './safety.js';
import { ASIDE, dropChain, enqueue, loadGroup, loadOwn, newKey, outbox, ownKey } from './state.js';
import { queue } from './stores/memory.js';

/** @import { Bytes } from './bytes.js' */
/** @import { Item } from './contents.js' */
/** @import { DraftRow, GroupState, LogEvent, Warning } from './state.js' */

/** @typedef {{field: string, kind: number, context?: Uint8Array, body: Uint8Array}} NewPart `context`: 16 random bytes, shared by all parts, if left out. */

/** A device in its groups. Every event is one transaction: ratchet, item, warning and position together. */
export class Member extends Enrolment {
  #sending = queue();
  /** @type {Map<string, number>} When each group had caught up. */
  #caughtUp = new Map();

  // Verification

  /** @param {string} group @param {string} user @returns {Promise<{digits: string, scannable: Bytes}>} */
  async safetyNumber(group, user) {
    const { devices } = await this.roster(group);
    /** @param {string} one */
    const person = (one) => ({ user: one, identities: devices.filter((device) => device.user === one).map(({ identity }) => identity) });
    return safetyNumber(person(this.me.user), person(user));
  }

  /** @param {string} user Remember that a person's safety number was compared: history that this person shares is read. */
  verify(user) {
    return this.transact(async (unit) => unit.put('identities', `verified/${user}`, { at: this.cx.now() }));
  }

  // Receiving

  /** @param {LogEvent} event The group's next event. @returns {Promise<'processed' | 'seen'>} */
  receive(event) {
    return receive(this.cx, event);
  }

  /** @param {string} group Everything that the log had is processed: what is still unreadable is asked for. */
  caughtUp(group) {
    if (!this.#caughtUp.has(group)) this.#caughtUp.set(group, this.cx.now());
  }

  /** @param {string} group Do what is due: requests for missing keys, warnings about what did not come. Call it now and then, and `flush` after it. */
  async tick(group) {
    const since = this.#caughtUp.get(group);
    if (since !== undefined) await this.transact((unit) => dueRequests(unit, this.cx, group, since));
  }

  /** @param {string} group @returns {Promise<Item[]>} In the order of the log. */
  items(group) {
    return this.transact(async (unit) => (await unit.list('items', `${group}/`)).map(([, item]) => item));
  }

  /** @param {string} group @param {number} [limit] @returns {Promise<Item[]>} The oldest items not handled; a member with `inbox` lists them. */
  unhandled(group, limit = 100) {
    return this.transact(async (unit) => {
      const found = [];
      for (const [key] of await unit.list('unhandled', `${group}/`, limit)) found.push(await unit.get('items', key));
      return found;
    });
  }

  /** @param {Item} item Note that the program has handled it. */
  handled(item) {
    return this.transact(async (unit) => unit.delete('unhandled', itemKey(item)));
  }

  /** @param {string} group @returns {Promise<Warning[]>} In the order of the log. */
  warnings(group) {
    return this.transact(async (unit) => (await unit.list('warnings', `${group}/`)).map(([, warning]) => warning));
  }

  /** @param {string} group @returns {Promise<GroupState>} */
  group(group) {
    return this.transact((unit) => loadGroup(unit, group));
  }

  /**
   * @param {string} group
   * @returns {Promise<Bytes>} An audit file of the group, signed by this device; `orbital verify` reads it. It holds encrypted frames, and no key.
   * @throws {E2eeError} `not_found` when the group is unknown here, or no frames of it were kept.
   */
  audit(group) {
    return this.transact((unit) => writeAudit(unit, this.cx, group));
  }

  /** @param {string} group A person has looked at why sending stopped, and continues. */
  resume(group) {
    return this.transact(async (unit) => {
      unit.put('groups', group, { ...(await loadGroup(unit, group)), stopped: null });
      await dropChain(unit, this.cx, ownKey(this.cx, group));
    });
  }

  // Sending

  /**
   * Put a draft into the outbox. It is sealed at the moment of sending.
   *
   * @param {string} group
   * @param {string} type Of the event, `new_reply` for instance.
   * @param {NewPart[]} parts The encrypted fields.
   * @param {Record<string, unknown>} [plain] The other fields.
   * @param {{answering?: Item}} [options] `answering`: counts as handled in the same transaction, so that it is answered once, also after a crash.
   * @returns {Promise<string>} The idempotency key.
   */
  draft(group, type, parts, plain = {}, { answering } = {}) {
    return this.transact(
      async (unit) => {
        await loadGroup(unit, group);
        const [id, shared] = [newKey(), random(16)];
        const whole = parts.map(({ context = shared, body, ...part }) => ({
          ...part,
          context: copy(context),
          body: copy(body),
          nonce: random(16),
        }));
        await enqueue(unit, group, { kind: 'draft', id, chainName: this.cx.chainName, type, plain, parts: whole, at: this.cx.now() });
        if (answering) unit.delete('unhandled', itemKey(answering));
        return id;
      },
      { durable: true },
    );
  }

  /** @param {string} group Send what waits. @returns {Promise<void>} Rejects as `flush` of outbound.js does. */
  flush(group) {
    return this.#sending(() => flush(this.cx, group));
  }

  /** @param {string} group @returns {Promise<number>} Drafts that did not come back as events yet. */
  pending(group) {
    return this.transact(
      async (unit) => (await unit.list('outbox', outbox.drafts(group))).length + (await unit.list('outbox', outbox.posted(group))).length,
    );
  }

  /** @param {string} group @returns {Promise<DraftRow[]>} What did not come back as an event yet, in the order in which it was written. */
  drafts(group) {
    return this.transact(async (unit) => {
      const rows = [...(await unit.list('outbox', outbox.drafts(group))), ...(await unit.list('outbox', outbox.posted(group)))];
      return rows.map(([, row]) => row).sort((a, b) => a.at - b.at);
    });
  }

  /**
   * Take a draft that the server refused out of the line, so that the next one is sent. It waits for a person.
   *
   * @param {string} group
   * @param {string} id Its idempotency key.
   * @param {string} refused Why.
   * @returns {Promise<void>}
   */
  setAside(group, id, refused) {
    return this.#moveDraft(group, id, (row) => ({ ...row, chainName: ASIDE, refused }));
  }

  /** Send a draft again that the server refused. @param {string} group @param {string} id @returns {Promise<void>} */
  sendAgain(group, id) {
    return this.#moveDraft(group, id, ({ refused: _, ...row }) => ({ ...row, chainName: this.cx.chainName }));
  }

  /** Delete a draft. What the server has accepted already stays in the log. @param {string} group @param {string} id @returns {Promise<void>} */
  discard(group, id) {
    return this.#moveDraft(group, id, () => null);
  }

  /** @param {string} group @param {string} id @param {(row: DraftRow) => DraftRow | null} move Null deletes it. */
  #moveDraft(group, id, move) {
    return this.transact(
      async (unit) => {
        for (const [key, row] of await unit.list('outbox', outbox.drafts(group))) {
          if (row.id !== id) continue;
          unit.delete('outbox', key);
          const moved = move(row);
          if (moved) await enqueue(unit, group, moved);
        }
      },
      { durable: true },
    );
  }

  /** @param {string} group Take new keys for what is sent next: a person asked for it, or the page closes. */
  renewKeys(group) {
    return this.transact((unit) => dropChain(unit, this.cx, ownKey(this.cx, group)));
  }

  /**
   * Take over the drafts of tabs that are closed, and throw their chains away.
   *
   * @param {string} group
   * @param {ReadonlySet<string>} [open] Names of the chains of tabs that are open.
   * @returns {Promise<void>}
   */
  adoptDrafts(group, open = new Set()) {
    return this.transact(async (unit) => {
      /** @param {string} name */
      const stays = (name) => name === this.cx.chainName || name === ASIDE || open.has(name);
      for (const [key, row] of await unit.list('outbox', outbox.drafts(group))) {
        if (stays(row.chainName)) continue;
        unit.delete('outbox', key);
        await enqueue(unit, group, { ...row, chainName: this.cx.chainName });
      }
      for (const [key] of await unit.list('own', `${group}/`)) {
        if (stays(key.slice(group.length + 1))) continue;
        await dropChain(unit, this.cx, key);
        unit.delete('own', key);
      }
    });
  }

  /** @param {string} group @returns {Promise<{state: string, epoch: number, count: number}>} The sender's machine, for showing. */
  sender(group) {
    return this.transact(async (unit) => {
      const { state, epoch, count } = await loadOwn(unit, this.cx, group);
      return { state, epoch, count };
    });
  }

  /**
   * Give a person what this device can read, as far as the group's policy allows: a person's decision, never automatic.
   *
   * @param {string} group
   * @param {string} user
   * @returns {Promise<number>} Chains given to each of the person's devices.
   * @throws {E2eeError} `stopped` when the policy allows none.
   */
  shareHistory(group, user) {
    return this.transact((unit) => shareHistory(unit, this.cx, group, user));
  }
}
