/** Groups of version 2: what their members wrote, in plain text, and what the member writes. */
import { openDevice } from './cipher-device.js';

/** @import {Item, LogEvent, Member} from '../../vendor/e2ee.js' */
/** @import {Device, Surroundings} from './cipher-device.js' */
/** @import {Bytes} from '../crypto/bytes.js' */

/** How often missing keys are asked for, and what failed is sent again. */
const TICK_MS = 2000;
/** Anybody whom the group admits may be given what was written before, by a person's word. */
const ALL_HISTORY = 2;

/** @typedef {{id: string, groupId: string, type: string, plain: Record<string, any>, texts: string[], atMs: number, posted: boolean, refused: string | undefined}} Draft */
/** @typedef {Pick<Item, 'status' | 'author' | 'parts' | 'via'> & {seq: number, data: Record<string, any>}} Known */

/**
 * @typedef {object} Hooks
 * @property {(groupId: string, item: Known) => void} read An item became readable.
 * @property {(groupId: string, drafts: Draft[]) => void} drafts What is not sent yet has changed.
 * @property {(draft: Draft, answer: any, body: Record<string, any>) => void} sent
 */

/** @param {any} error @returns {boolean} Whether the server itself refused a draft: what a proxy answers, or an ended session, is no refusal. */
const isRefusal = ({ code, retryable, status }) => status >= 400 && !retryable && code !== 'UNAUTHORIZED' && !/^HTTP_/.test(code);

/** The id by which the page knows what an event carries. @param {Record<string, any>} data @returns {string} */
const idOf = ({ reply_id, media_id, thread_id }) => reply_id ?? media_id ?? thread_id ?? '';

/** What one group has. */
class Contents {
  /** @type {Map<string, Known>} By the id of a thread, reply or medium. */
  byId = new Map();
  /** @type {Map<number, Known>} */
  bySeq = new Map();
  /** @type {Set<number>} Numbers of what may become readable. */
  waiting = new Set();

  /** @param {Known} item @returns {boolean} Whether it is readable, and was not before. */
  put(item) {
    const id = idOf(item.data);
    const before = this.byId.get(id);
    // Another event with the id of an item that was read does not replace it.
    if (before?.status === 'read' && before.seq !== 0 && before.seq !== item.seq) return false;
    this.byId.set(id, item);
    this.bySeq.set(item.seq, item);
    if (item.status === 'waiting') this.waiting.add(item.seq);
    else this.waiting.delete(item.seq);
    return item.status === 'read' && before?.status !== 'read';
  }
}

/** The member's device and its groups. It never touches the DOM. */
export class Cipher {
  #around;
  #hooks;
  /** @type {Promise<Device> | undefined} */
  #opening;
  /** @type {Device | undefined} */
  #device;
  /** @type {Map<string, Contents>} */
  #contents = new Map();
  /** @type {Map<string, Draft[]>} */
  #drafts = new Map();
  /** @type {Map<string, any>} Why the server refused a draft, by its key. */
  #refusals = new Map();
  /** @type {Map<string, Promise<void>>} The flush of each group that runs. */
  #flushing = new Map();
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #timer;
  #decoder = new TextDecoder();
  #encoder = new TextEncoder();

  /** @param {Omit<Surroundings, 'sent' | 'failed'>} around @param {Hooks} hooks */
  constructor(around, hooks) {
    this.#around = around;
    this.#hooks = hooks;
  }

  /** @returns {Promise<Device>} The device; it is opened once. */
  open() {
    this.#opening ??= openDevice({
      ...this.#around,
      sent: ({ key, body, answer }) => this.#sent(key, body, answer),
      failed: ({ key, error }) => {
        if (isRefusal(error)) this.#refusals.set(key, error);
      },
    }).then(
      (device) => {
        this.#device = device;
        return device;
      },
      (error) => {
        this.#opening = undefined;
        throw error;
      },
    );
    return this.#opening;
  }

  /** @returns {Promise<Member>} */
  async member() {
    return (await this.open()).member;
  }

  stop() {
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#device?.visit?.end();
  }

  // Coming into groups

  /** @returns {Promise<Bytes>} The invitation of a group that is about to be made: 16 bytes of secret, and 16 of the founder's hash. */
  async newInvitation() {
    const { member, library } = await this.open();
    const raw = crypto.getRandomValues(new Uint8Array(32));
    raw.set(await library.founderHash(await member.identity()), 16);
    return raw;
  }

  /** @param {string} groupId @returns {Promise<boolean>} Whether this browser has entered the group. */
  async knows(groupId) {
    return (await (await this.open()).store.get('groups', groupId)) !== undefined;
  }

  /** Found a group that the server has just made. A second call changes nothing. @param {string} groupId @param {Bytes} raw */
  async found(groupId, raw) {
    if (await this.knows(groupId)) return;
    const member = await this.member();
    await member.found(groupId, { secret: raw.slice(0, 16), history: ALL_HISTORY });
  }

  /** Enter a group by an invitation. A second call changes nothing. @param {string} groupId @param {Bytes} raw @param {string} [inviter] */
  async join(groupId, raw, inviter) {
    if (await this.knows(groupId)) return;
    const member = await this.member();
    await member.join(groupId, { secret: raw.slice(0, 16), founder: raw.slice(16) }, inviter ? { inviter } : {});
  }

  // Reading

  /**
   * Load what this browser knows of a group, and take in the log up to a number.
   *
   * @param {string} groupId
   * @param {number} seq
   */
  async start(groupId, seq) {
    const { member, visit } = await this.open();
    await this.#load(groupId);
    await this.catchUp(groupId, seq);
    if (visit) await member.adoptDrafts(groupId, await visit.open());
    await this.refreshDrafts(groupId);
    this.#timer ??= setInterval(() => void this.#tick(), TICK_MS);
  }

  /** @param {string} groupId */
  async #load(groupId) {
    const contents = new Contents();
    for (const item of await (await this.member()).items(groupId)) contents.put(/** @type {Known} */ (item));
    this.#contents.set(groupId, contents);
  }

  /** Take in the log up to a number, by requests. @param {string} groupId @param {number} seq */
  async catchUp(groupId, seq) {
    const { member, relay } = await this.open();
    const before = (await member.group(groupId)).position.seq;
    if (before >= seq) return;
    try {
      await relay.catchUp(groupId, seq);
    } catch (error) {
      // The log no longer has what follows.
      if (/** @type {any} */ (error).code !== 'epoch_changed') throw error;
      await this.reset(groupId, seq);
    }
    await this.#taken(groupId, before);
  }

  /** Continue behind events that the server no longer keeps. @param {string} groupId @param {number} seq The last of them. */
  async reset(groupId, seq) {
    const { member, library } = await this.open();
    if ((await member.group(groupId)).position.seq >= seq) return;
    await member.skipTo(groupId, await library.startAt(/** @type {any} */ (this.#around.client), groupId, seq));
  }

  /** Process an event of the page's subscription. @param {any} event */
  async receive(event) {
    const { member, library } = await this.open();
    const groupId = event.group_id;
    const { seq } = (await member.group(groupId)).position;
    if (event.seq > seq + 1) await this.catchUp(groupId, event.seq - 1);
    await member.receive(/** @type {LogEvent} */ (library.logEvent(event)));
    await this.#taken(groupId, event.seq - 1, event.seq);
    if (this.#drafts.get(groupId)?.length) await this.refreshDrafts(groupId);
    // Answers to requests, and keys for those who came.
    if (event.type === 'new_keys' || event.type === 'new_record') void this.flush(groupId);
  }

  /** Everything that the log had is processed. @param {string} groupId */
  async caughtUp(groupId) {
    (await this.member()).caughtUp(groupId);
    void this.flush(groupId);
  }

  /** Look at items behind a number, and at all that waited. @param {string} groupId @param {number} after @param {number} [upTo] */
  async #taken(groupId, after, upTo) {
    const { member, store, library } = await this.open();
    const contents = this.#contents.get(groupId);
    if (!contents) return;
    const seqs = new Set(contents.waiting);
    if (upTo !== undefined) seqs.add(upTo);
    const found = upTo === undefined ? await member.items(groupId) : [];
    for (const item of found) if (item.seq > after) seqs.add(item.seq);
    for (const seq of seqs) {
      const item = /** @type {Known | undefined} */ (await store.get('items', library.itemKey({ group: groupId, seq })));
      if (item && contents.put(item)) this.#hooks.read(groupId, item);
    }
  }

  /**
   * What a thread, reply or medium says.
   *
   * @param {string} groupId
   * @param {string | number} which Its id, or the number of its event.
   * @param {string} author Whom the server names: another one than the signer is not shown.
   * @param {number} [part] 1 is the body of a thread.
   * @returns {string | null} Null when it cannot be read.
   */
  text(groupId, which, author, part = 0) {
    const bytes = this.#part(groupId, which, author, part);
    return bytes ? this.#decoder.decode(bytes) : null;
  }

  /** @param {string} groupId @param {string | number} which @param {string} author @param {number} part @returns {Uint8Array | undefined} */
  #part(groupId, which, author, part) {
    const contents = this.#contents.get(groupId);
    const item = typeof which === 'number' ? contents?.bySeq.get(which) : contents?.byId.get(which);
    return item?.status === 'read' && item.author === author ? item.parts[part]?.body : undefined;
  }

  /** @param {string} groupId @param {string} id @returns {Known['status'] | undefined} Undefined when its event is not here yet. */
  statusOf(groupId, id) {
    return this.#contents.get(groupId)?.byId.get(id)?.status;
  }

  /** @param {string} groupId @param {string} mediaId @param {string} author @returns {{name: string, type: string} | null} */
  mediaInfo(groupId, mediaId, author) {
    const bytes = this.#part(groupId, mediaId, author, 0);
    try {
      return bytes && this.#device ? this.#device.library.readMediaInfo(bytes) : null;
    } catch {
      return null;
    }
  }

  // Writing

  /** @param {string} groupId @param {string} title @param {string} body @returns {Promise<string>} Its key. */
  async thread(groupId, title, body) {
    const { KINDS } = (await this.open()).library;
    return this.#draft(groupId, 'new_thread', [
      { field: 'encrypted_title', kind: KINDS.title, body: this.#encoder.encode(title) },
      { field: 'encrypted_body', kind: KINDS.body, body: this.#encoder.encode(body) },
    ]);
  }

  /** @param {string} groupId @param {string} threadId @param {string} body @returns {Promise<string>} Its key. */
  async reply(groupId, threadId, body) {
    const { KINDS, uuidBytes } = (await this.open()).library;
    const part = { field: 'encrypted_body', kind: KINDS.reply, context: uuidBytes(threadId), body: this.#encoder.encode(body) };
    return this.#draft(groupId, 'new_reply', [part], { thread_id: threadId });
  }

  /** @param {string} groupId @param {string} type @param {import('../../vendor/e2ee.js').NewPart[]} parts @param {Record<string, unknown>} [plain] */
  async #draft(groupId, type, parts, plain = {}) {
    const key = await (await this.member()).draft(groupId, type, parts, plain);
    await this.refreshDrafts(groupId);
    void this.flush(groupId);
    return key;
  }

  /** Read again what is not sent yet. @param {string} groupId */
  async refreshDrafts(groupId) {
    const rows = await (await this.member()).drafts(groupId);
    const drafts = rows.map(({ id, type, plain, parts, at, posted, refused }) => ({
      ...{ id, groupId, type, plain, atMs: at, refused },
      texts: parts.map(({ body }) => this.#decoder.decode(body)),
      posted: posted !== undefined,
    }));
    this.#drafts.set(groupId, drafts);
    this.#hooks.drafts(groupId, drafts);
  }

  /** Send a text again that the server refused. @param {string} groupId @param {string} key */
  async sendAgain(groupId, key) {
    await (await this.member()).sendAgain(groupId, key);
    await this.refreshDrafts(groupId);
    void this.flush(groupId);
  }

  /** @param {string} groupId @param {string} key */
  async discard(groupId, key) {
    await (await this.member()).discard(groupId, key);
    await this.refreshDrafts(groupId);
  }

  /** Send what waits in a group. It never rejects: what was not sent is tried again. @param {string} groupId @returns {Promise<void>} */
  flush(groupId) {
    const running = (this.#flushing.get(groupId) ?? Promise.resolve()).then(() => this.#flush(groupId));
    this.#flushing.set(groupId, running);
    return running;
  }

  /** @param {string} groupId */
  async #flush(groupId) {
    const member = await this.member();
    for (;;) {
      try {
        return await member.flush(groupId);
      } catch {
        const refused = (await member.drafts(groupId)).find(({ id }) => this.#refusals.has(id));
        if (!refused) return;
        const { message } = this.#refusals.get(refused.id);
        this.#refusals.delete(refused.id);
        await member.setAside(groupId, refused.id, message);
        await this.refreshDrafts(groupId);
      }
    }
  }

  /** @param {string} key @param {Record<string, any>} body @param {any} answer */
  #sent(key, body, answer) {
    const draft = [...this.#drafts.values()].flat().find(({ id }) => id === key);
    const { userId } = this.#around;
    if (!draft) return;
    draft.posted = true;
    // It stands in its thread before its event comes.
    const parts = draft.texts.map((text) => ({ kind: 0, body: this.#encoder.encode(text), at: draft.atMs }));
    const data = { ...draft.plain, ...answer };
    if (draft.type !== 'media_uploaded')
      this.#contents.get(draft.groupId)?.put({ seq: 0, status: 'read', author: userId, via: null, data, parts });
    this.#hooks.sent(draft, answer, body);
  }

  /** Ask for missing keys, and send what failed and what closed tabs left. */
  async #tick() {
    const { member, visit } = await this.open();
    for (const groupId of this.#contents.keys()) {
      await member.tick(groupId);
      if (visit) await member.adoptDrafts(groupId, await visit.open());
      await this.flush(groupId);
    }
  }
}
