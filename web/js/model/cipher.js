/** Groups of version 2: what their members wrote, in plain text, and what the member writes. */
import { fromBase64, toBase64 } from '../crypto/bytes.js';
import { Contents } from './cipher-contents.js';
import { openDevice } from './cipher-device.js';
import { CipherOutbox, report } from './cipher-outbox.js';
import { CipherRoster } from './cipher-roster.js';

/** @import {LogEvent, Member} from '../../vendor/e2ee.js' */
/** @import {Known} from './cipher-contents.js' */
/** @import {Device, Surroundings} from './cipher-device.js' */
/** @import {Draft} from './cipher-outbox.js' */
/** @import {Bytes} from '../crypto/bytes.js' */

/** How often missing keys are asked for, and what failed is sent again. */
const TICK_MS = 2000;
/** So many items are read one by one; of more, the whole list. */
const FEW = 50;
/** Events that change who may read, or may show that something is wrong. */
const ROSTER_EVENTS = new Set(['member_joined', 'member_left', 'identity_changed', 'new_record', 'new_keys']);
/** Anybody whom the group admits may be given what was written before, by a person's word. */
const ALL_HISTORY = 2;

/**
 * @typedef {object} Hooks
 * @property {(groupId: string, item: Known) => void} read An item became readable.
 * @property {(groupId: string, drafts: Draft[]) => void} drafts What is not sent yet has changed.
 * @property {(key: string, answer: any, body: Record<string, any>) => void} sent The server accepted a text.
 * @property {() => void} changed Who may read has changed, or what this browser is in a group.
 */

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
  /** @type {Map<string, number>} By group: the number of the last record that was posted here. */
  #recorded = new Map();
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  #stopped = false;
  /** What is entered or founded, one after the other, where tabs cannot run at once. */
  #turn = Promise.resolve();
  #decoder = new TextDecoder();
  #encoder = new TextEncoder();

  /** @param {Omit<Surroundings, 'sent' | 'failed'>} around @param {Hooks} hooks */
  constructor(around, hooks) {
    this.#around = around;
    this.#hooks = hooks;
    const open = () => this.open();
    this.outbox = new CipherOutbox(open, hooks);
    /** Who has which device. */
    this.roster = new CipherRoster(open, { userId: around.userId, send: (id) => this.#sendRecord(id), changed: hooks.changed });
  }

  /** @returns {Promise<Device>} The device; it is opened once. */
  open() {
    this.#opening ??= openDevice({
      ...this.#around,
      sent: (sent) => this.#sent(sent),
      failed: ({ key, error }) => this.outbox.failed(key, error),
    }).then(
      (device) => {
        this.#device = device;
        if (this.#stopped) device.visit?.end();
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
    this.#stopped = true;
    clearTimeout(this.#timer);
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
  found(groupId, raw) {
    return this.#once(groupId, (member) => member.found(groupId, { secret: raw.slice(0, 16), history: ALL_HISTORY }));
  }

  /** Enter a group by an invitation. A second call changes nothing. @param {string} groupId @param {Bytes} raw @param {string} [inviter] */
  join(groupId, raw, inviter) {
    const invite = { secret: raw.slice(0, 16), founder: raw.slice(16) };
    return this.#once(groupId, (member) => member.join(groupId, invite, inviter ? { inviter } : {}));
  }

  /** Enter a group that had version 1 before; who moved it founds it. A second call changes nothing. @param {string} groupId @param {import('./versions.js').Move} move @param {string} [inviter] */
  async follow(groupId, { raw, seq }, inviter) {
    const { library, member } = await this.open();
    const mine = toBase64(await library.founderHash(await member.identity()));
    if (mine === toBase64(raw.slice(16))) await this.found(groupId, raw);
    else await this.join(groupId, raw, inviter);
    // Nothing of version 2 stands before it, and the record itself is no part of the roster.
    await this.reset(groupId, seq);
  }

  /**
   * Come into a group once, whichever tab or part of the page asks first.
   *
   * @param {string} groupId
   * @param {(member: Member) => Promise<void>} come
   */
  async #once(groupId, come) {
    const { member, visit } = await this.open();
    const work = async () => {
      if (!(await this.knows(groupId))) await come(member);
    };
    const turn = this.#turn.then(() => (visit ? visit.alone(work) : work()));
    this.#turn = turn.catch(() => {});
    await turn;
  }

  /** @param {string} groupId @returns {Promise<Bytes>} What an invite link of the group carries: any of its devices can invite. */
  async invitation(groupId) {
    return fromBase64((await (await this.member()).invite(groupId)).text);
  }

  /** Before a removal: revoke the member's devices, where this member is the founder. The removal itself takes them from the view in any case. @param {string} groupId @param {string} userId */
  async revoke(groupId, userId) {
    const member = await this.member();
    if ((await member.roster(groupId)).founder !== this.#around.userId) return;
    await member.revoke(groupId, userId, 0, { removed: true });
    await this.flush(groupId);
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
    // Without the server it shows what is here; the subscription continues from there.
    await this.catchUp(groupId, seq).catch((error) => {
      if (!error.retryable) throw error;
    });
    if (visit) await member.adoptDrafts(groupId, await visit.open());
    await this.outbox.refresh(groupId);
    await this.roster.load(groupId);
    this.#timer ??= setTimeout(() => void this.#tick(), TICK_MS);
  }

  /** @param {string} groupId */
  async #load(groupId) {
    const member = await this.member();
    const contents = new Contents();
    // First the number, then the items: what another tab takes in between is looked at again.
    contents.seen = (await member.group(groupId)).position.seq;
    for (const item of await member.items(groupId)) contents.put(/** @type {Known} */ (item));
    this.#contents.set(groupId, contents);
  }

  /** Take in the log up to a number, by requests. @param {string} groupId @param {number} seq */
  async catchUp(groupId, seq) {
    const { member, relay } = await this.open();
    const { position } = await member.group(groupId);
    try {
      if (position.seq < seq) await relay.catchUp(groupId, seq);
    } catch (error) {
      // The log no longer has what follows.
      if (/** @type {any} */ (error).code !== 'epoch_changed') throw error;
      await this.reset(groupId, seq);
    }
    // Another tab may have taken it in.
    await this.#taken(groupId, Math.max(seq, position.seq));
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
    await this.#taken(groupId, event.seq);
    if (this.outbox.has(groupId)) await this.outbox.refresh(groupId);
    if (ROSTER_EVENTS.has(event.type)) await this.roster.load(groupId);
    else await this.roster.loadIfStopped(groupId);
    // Answers to requests, and keys for those who came.
    if (event.type === 'new_keys' || event.type === 'new_record') void this.flush(groupId);
  }

  /** Everything that the log had is processed. @param {string} groupId */
  async caughtUp(groupId) {
    (await this.member()).caughtUp(groupId);
    void this.flush(groupId);
  }

  /** Look at the items up to a number that were not looked at yet, and at all that waited. @param {string} groupId @param {number} upTo */
  async #taken(groupId, upTo) {
    const { member, store, library } = await this.open();
    const contents = this.#contents.get(groupId);
    if (!contents) return;
    const seqs = new Set(contents.waiting);
    if (upTo - contents.seen > FEW) for (const { seq } of await member.items(groupId)) seqs.add(seq);
    else for (let seq = contents.seen + 1; seq <= upTo; seq++) seqs.add(seq);
    for (const seq of seqs) {
      const item = /** @type {Known | undefined} */ (await store.get('items', library.itemKey({ group: groupId, seq })));
      if (item && contents.put(item)) this.#hooks.read(groupId, item);
    }
    contents.seen = Math.max(contents.seen, upTo);
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

  /** @param {string} mediaId @param {File} file @returns {Promise<{sealed: Blob, info: Bytes}>} `info`: what members get to open it. */
  async sealFile(mediaId, file) {
    const { library } = await this.open();
    const { key, sealed, sha256 } = await library.sealFile(mediaId, file);
    return { sealed, info: library.writeMediaInfo({ key, sha256, type: file.type, name: file.name }) };
  }

  /** @param {string} groupId @param {string} mediaId @param {Blob} sealed @param {string} type @returns {Promise<Blob>} @throws When it is not what was sealed. */
  async openFile(groupId, mediaId, sealed, type) {
    const { library } = await this.open();
    const item = this.#contents.get(groupId)?.byId.get(mediaId);
    const info = library.readMediaInfo(/** @type {Known} */ (item).parts[0]?.body ?? new Uint8Array(0));
    return new Blob([await library.openFile(mediaId, info, sealed)], { type });
  }

  // Writing

  /**
   * Send a file.
   *
   * @param {string} groupId
   * @param {string} threadId
   * @param {string} mediaId
   * @param {Bytes} info As `sealFile` made it.
   * @throws When the server does not have it: retryable, unless it refused it.
   */
  async upload(groupId, threadId, mediaId, info) {
    const { member, library } = await this.open();
    const own = async () => (await member.drafts(groupId)).find(({ plain }) => plain.media_id === mediaId);
    const before = await own();
    if (before?.refused) await member.sendAgain(groupId, before.id);
    else if (!before) {
      const part = { field: 'encrypted_metadata', kind: library.KINDS.media, context: library.uuidBytes(mediaId), body: info };
      await member.draft(groupId, 'media_uploaded', [part], { media_id: mediaId, thread_id: threadId });
    }
    await this.flush(groupId);
    const left = await own();
    if (!left || left.posted !== undefined) return;
    // Paused: what was written after it is sent.
    if (!left.refused && this.#around.signal(mediaId)?.aborted) await member.setAside(groupId, left.id, 'paused');
    throw Object.assign(new Error(left.refused ?? 'it waits for the server'), { retryable: left.refused === undefined });
  }

  /** Delete the draft of a file that is not sent. @param {string} groupId @param {string} mediaId */
  async discardFile(groupId, mediaId) {
    const member = await this.member();
    for (const { id, plain } of await member.drafts(groupId)) if (plain.media_id === mediaId) await member.discard(groupId, id);
  }

  /** @param {string} groupId @param {string} title @param {string} body @returns {Promise<string>} Its key. */
  async thread(groupId, title, body) {
    const { KINDS } = (await this.open()).library;
    return this.outbox.draft(groupId, 'new_thread', [
      { field: 'encrypted_title', kind: KINDS.title, body: this.#encoder.encode(title) },
      { field: 'encrypted_body', kind: KINDS.body, body: this.#encoder.encode(body) },
    ]);
  }

  /** @param {string} groupId @param {string} threadId @param {string} body @returns {Promise<string>} Its key. */
  async reply(groupId, threadId, body) {
    const { KINDS, uuidBytes } = (await this.open()).library;
    const part = { field: 'encrypted_body', kind: KINDS.reply, context: uuidBytes(threadId), body: this.#encoder.encode(body) };
    return this.outbox.draft(groupId, 'new_reply', [part], { thread_id: threadId });
  }

  /** Send what waits in a group. It never rejects: what was not sent is tried again. @param {string} groupId @returns {Promise<void>} */
  flush(groupId) {
    return this.outbox.flush(groupId);
  }

  /** Post the records that wait, and take in the log up to them. @param {string} groupId */
  async #sendRecord(groupId) {
    await this.flush(groupId);
    const seq = this.#recorded.get(groupId);
    if (seq !== undefined) await this.catchUp(groupId, seq);
    await this.roster.load(groupId);
  }

  /** @param {import('./cipher-device.js').Sent} sent */
  #sent({ group, key, type, body, answer }) {
    if (type === 'new_record') this.#recorded.set(group, answer.seq);
    const draft = this.outbox.sent(group, key);
    if (type !== 'new_thread' && type !== 'new_reply') return;
    // It stands in its thread before its event comes.
    const parts = draft?.texts.map((text) => ({ kind: 0, body: this.#encoder.encode(text), at: draft.atMs }));
    const known = { seq: 0, status: /** @type {const} */ ('read'), author: this.#around.userId, via: null };
    if (parts) this.#contents.get(group)?.put({ ...known, data: { ...draft?.plain, ...answer }, parts });
    this.#hooks.sent(key, answer, body);
  }

  /** Ask for missing keys, and send what failed and what closed tabs left. */
  async #tick() {
    for (const groupId of this.#contents.keys()) await this.#tend(groupId).catch(report);
    if (!this.#stopped) this.#timer = setTimeout(() => void this.#tick(), TICK_MS);
  }

  /** @param {string} groupId */
  async #tend(groupId) {
    const { member, visit } = await this.open();
    await member.tick(groupId);
    // What another tab could read meanwhile.
    await this.#taken(groupId, 0);
    await this.roster.loadIfStopped(groupId);
    if (visit) await member.adoptDrafts(groupId, await visit.open());
    await this.flush(groupId);
  }
}
