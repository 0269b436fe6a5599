/** The member's model: groups, threads, replies, presence. It decrypts what arrives and encrypts what is sent, and never touches the DOM. */
import { Downloads } from './downloads.js';
import { Drafts } from './drafts.js';
import { Events } from './events.js';
import { newGroup } from './group.js';
import { GroupKeys } from './group-keys.js';
import { isLoginProxy } from './login-proxy.js';
import { Membership } from './membership.js';
import { Outbox } from './outbox.js';
import { People } from './people.js';
import { ReadMarks } from './reads.js';
import { Shelf } from './shelf.js';
import { Threads } from './threads.js';
import { Typists } from './typing.js';
import { Uploads } from './uploads.js';
import { versionsOf } from './versions.js';
import { Writer } from './writer.js';

/** @import {Group, Loaded, Session, Surroundings, Thread} from './types.js' */

/** Delay before a refused connection is retried when the server itself did not refuse the session. */
const REOPEN_MS = 5000;

/** Emits `change` when the view must be updated, `news`, `removed`, `sent`, `trouble`, and `ended` when the session is over. */
export class Family extends EventTarget {
  /** @type {Map<string, Group>} */
  groups = new Map();
  /** @type {import('/sdk/connection.js').ConnectionState} */
  state = { status: 'connecting' };
  /** @type {Loaded} */
  loaded = 'no';
  /** @type {string | undefined} The thread that is open. */
  reading;
  /** @type {import('/sdk/subscription.js').Violation[]} What the server changed, dropped or repeated. */
  violations = [];
  /** @type {boolean | undefined} Whether the browser granted persistent storage; undefined before it was asked. */
  persisted;
  /** Whether the server answered requests since the connection was lost. */
  polled = false;
  /** Whether a proxy in front of the server asks for a login. */
  loginProxy = false;
  typists = new Typists(() => this.changed());
  #around;
  #over = false;
  #noRoom = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #reopening;

  /** @param {Session} session @param {Surroundings} around */
  constructor(session, around) {
    super();
    this.session = session;
    this.#around = around;
    const [{ client, storage }, userId, { api }] = [around, session.user_id, around.client];
    const [full, changed, ask] = [() => this.#full(), () => this.changed(), this.ask.bind(this)];
    this.keys = new GroupKeys(userId, around.keys);
    /** Comes into a group, in one tab at a time: another one may see it before its keys are here. @template T @param {() => Promise<T>} act */
    this.entering = (act) => around.alone(`orbital-entering:${userId}`, act);
    this.versions = versionsOf(this, client);
    this.reads = new ReadMarks(new Shelf(storage, `orbital-read:${userId}`, full));
    this.drafts = new Drafts(storage, userId, full);
    this.outbox = new Outbox(client, new Shelf(storage, `orbital-refused:${userId}`, full), (id) => this.keys.stored(id), changed);
    const quota = (/** @type {string} */ groupId) => api.quota(groupId);
    const { versions, keys, groups } = this;
    this.outbox.keeper = versions;
    this.uploads = new Uploads({ client, session, table: around.uploads, quota, exclusive: around.exclusive, groups, versions, changed });
    this.downloads = new Downloads(client, versions, changed);
    const connected = () => this.state.status === 'open';
    this.people = new People({ api, userId, connected, ask, changed }, new Shelf(storage, `orbital-notices:${userId}`, full));
    const counted = (/** @type {Thread} */ thread) => this.#readNow(thread);
    this.threads = new Threads({ api, versions, userId, ask, nameOf: this.people.nameOf, counted, changed });
    const { outbox, people, reads, threads, typists, uploads } = this;
    this.writer = new Writer({ session, outbox, threads, groups, versions });
    this.events = new Events({ userId, outbox, people, reads, threads, typists, uploads, news: (detail) => this.#emit('news', detail) });
    const forget = (/** @type {string} */ id) => this.#forget(id);
    const unlocked = (/** @type {Group} */ one) => this.#unlocked(one);
    const { entering } = this;
    this.membership = new Membership({ api, userId, groups, keys, versions, ask, entering, sync: () => this.sync(), forget, unlocked });
    this.#listen();
  }

  #listen() {
    const { client } = this.#around;
    client.on('state', (state) => {
      this.state = state;
      if (state.status === 'open') this.polled = this.loginProxy = false;
      if (state.status !== 'open') for (const group of this.groups.values()) group.caughtUp = false;
      if (state.status === 'closed' && state.code === 1008) void this.#refused();
      if (state.status === 'open') void this.#opened();
      this.changed();
    });
    client.on('typing_indicator', ({ thread_id, user_id, username, is_typing }) => {
      if (is_typing && user_id !== this.session.user_id) this.typists.began(thread_id, user_id, username);
      else this.typists.stopped(thread_id, user_id);
      this.changed();
    });
    client.on('sent', ({ key, answer }) => void this.sent(key, answer));
    client.on('failed', (failure) => void this.outbox.failed(failure));
    client.on('violation', (violation) => {
      this.violations = [...this.violations, violation].slice(-20);
      this.changed();
    });
    client.on('error', (error) => {
      if (error.code === 'UNAUTHORIZED') void this.#refused();
      else if (/** @type {any} */ (error.cause)?.name === 'QuotaExceededError') this.#full();
      else console.warn('orbital:', error.code, error.message);
    });
  }

  get api() {
    return this.#around.client.api;
  }

  changed() {
    this.dispatchEvent(new Event('change'));
  }

  /** @param {string} name @param {unknown} [detail] */
  #emit(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  // The session

  /** Connect, and load the groups. */
  async start() {
    await this.keys.start();
    this.#around.client.connect();
    await Promise.all([this.outbox.restore(), this.uploads.restore().catch(() => {})]);
    await this.sync();
  }

  /** Check that an open connection is alive. */
  probe() {
    this.#around.client.wake();
  }

  /** Reconnect at once, on request. */
  wake() {
    this.#around.client.connect();
    this.uploads.wake();
    if (this.loaded === 'failed') void this.sync();
  }

  stop() {
    this.#over = true;
    clearTimeout(this.#reopening);
    this.uploads.stop();
    this.downloads.stop();
    this.threads.stop();
    this.typists.clear();
    this.versions.cipher?.stop();
    this.#around.client.close();
  }

  /** Apply a change that another tab made to the storage. @param {string | null} name */
  storedElsewhere(name) {
    const id = this.session.user_id;
    if (name === `orbital-read:${id}`) this.reads.merge();
    if (name === `orbital-refused:${id}`) void this.outbox.reread();
    this.changed();
  }

  /**
   * Handle a refused session. Only the server's own answer ends it; an intermediary's answer counts as a server
   * that cannot be reached.
   */
  async #refused() {
    if (this.#over) return;
    try {
      await this.api.groups();
    } catch (error) {
      if (/** @type {any} */ (error).code === 'UNAUTHORIZED' && !this.#over) {
        this.stop();
        return this.#emit('ended');
      }
    }
    clearTimeout(this.#reopening);
    this.#reopening = setTimeout(() => this.#over || this.#around.client.connect(), REOPEN_MS);
  }

  /**
   * Run a request; a refused token ends the session.
   *
   * @template T
   * @param {() => Promise<T>} question
   * @returns {Promise<T>}
   */
  async ask(question) {
    try {
      const answer = await question();
      this.#answered(false);
      return answer;
    } catch (error) {
      if (/** @type {any} */ (error).code === 'UNAUTHORIZED') void this.#refused();
      // Without any answer, what was known of a proxy still holds.
      if (/** @type {any} */ (error).code !== 'NETWORK') this.#answered(isLoginProxy(error));
      throw error;
    }
  }

  /** @param {boolean} loginProxy Whether a proxy's login answered, and not the server. */
  #answered(loginProxy) {
    if (this.loginProxy === loginProxy) return;
    this.loginProxy = loginProxy;
    // The login is done, here or in another tab.
    if (!loginProxy) this.#around.client.wake();
    this.changed();
  }

  /** Load again, on a new connection, what could not be loaded before. */
  async #opened() {
    this.uploads.wake();
    await this.sync();
    for (const group of this.groups.values()) void this.people.load(group);
  }

  /** Load groups that were joined on another device, and what could not be loaded before. Called periodically. */
  async refresh() {
    if (this.state.status === 'open' || this.loaded !== 'yes') await this.sync();
  }

  // Groups

  /** List the groups, and load those that are not loaded. */
  async sync() {
    if (this.#over) return;
    try {
      const found = await this.ask(() => this.api.groups());
      for (const id of this.groups.keys()) if (!found.some(({ group_id }) => group_id === id)) this.#forget(id);
      await Promise.all(found.map((one) => this.#take(one)));
      this.loaded = 'yes';
    } catch {
      if (this.loaded !== 'yes') this.loaded = 'failed';
    }
    this.changed();
  }

  /** @param {import('/sdk/rest.js').Group} found */
  async #take(found) {
    const { group_id: id, encrypted_name: sealedName, encrypted_group_key: wrapped, member_count: memberCount } = found;
    const code = found.invite_code || null;
    const invite = { expiresAt: found.invite_expires_at ?? null, singleUse: found.invite_single_use ?? false };
    const had = this.groups.get(id);
    const opened =
      had?.key && had.sealedName === sealedName
        ? { key: had.key, name: had.name, version: had.version, moved: had.moved }
        : await this.keys.of(id, wrapped, sealedName);
    const { key, name = null, version = 1, moved = false } = opened ?? {};
    if (key) void this.#persist();
    const group = this.groups.get(id);
    if (group) {
      const isNew = key && !group.key;
      Object.assign(group, { key, name, version, moved, code, invite, wrapped, sealedName, memberCount });
      // It was seen before its key was here, or its device could not be made: both happen while it is joined.
      if (isNew || (version === 2 && !group.begun)) await this.#unlocked(group);
      void this.#lookForMove(group);
      return this.#retry(group);
    }
    const made = newGroup({ id, name, version, moved, key, code, invite, wrapped, sealedName, memberCount });
    made.notices = this.people.notices(made);
    this.groups.set(id, made);
    // Everything older than a device's first look at a group counts as read.
    if (this.reads.latestAt(id) === undefined) this.reads.received(id, Date.parse(found.joined_at));
    await this.versions.begin(made, found.last_seq ?? 0);
    this.#subscribe(made, found.last_seq ?? 0);
    void this.people.load(made);
    await this.threads.loadPage(made);
    void this.#lookForMove(made);
  }

  /** A group of version 1 may have moved to version 2. Without an answer the next list of groups asks again. @param {Group} group */
  async #lookForMove(group) {
    if (!group.asked && (await this.versions.hasMoved(group).catch(() => false))) await this.#unlocked(group);
  }

  /** A group has a key that it had not. @param {Group} group */
  async #unlocked(group) {
    await this.versions.begin(group, group.subscription?.position?.seq ?? 0);
    await this.threads.reload(group);
    void this.#lookForMove(group);
  }

  /** Load the parts of a group that could not be loaded before. @param {Group} group */
  async #retry(group) {
    if (group.loaded === 'failed') await this.threads.loadPage(group);
    for (const thread of group.threads.values()) if (thread.loaded === 'failed') void this.threads.load(group, thread);
  }

  /** @param {Group} group @param {number} since */
  #subscribe(group, since) {
    const { client } = this.#around;
    group.subscription = client.subscribe(group.id, {
      since,
      onEvent: async (event) => {
        if (await this.versions.hasMoved(group, event)) await this.#unlocked(group);
        await this.versions.receive(group, event);
        await this.events.apply(group, event);
        this.changed();
      },
      onReset: ({ data }) => this.#reset(group, data.seq),
      onCaughtUp: () => {
        this.events.caughtUp(group);
        void this.versions.caughtUp(group).catch(() => {});
        void this.people.load(group);
        this.changed();
      },
      onEnd: (error) => {
        if (!error || this.groups.get(group.id) !== group) return;
        this.#forget(group.id);
        this.#emit('removed', group);
      },
    });
  }

  /** @param {string} id */
  #forget(id) {
    const group = this.groups.get(id);
    this.groups.delete(id);
    this.events.forget(id);
    group?.subscription?.close();
    this.changed();
  }

  /** Reload a group after a reset, when events are no longer in the log, and mark threads with newer content as unread. @param {Group} group @param {number} seq */
  async #reset(group, seq) {
    const latestAt = this.reads.latestAt(group.id) ?? Number.POSITIVE_INFINITY;
    await this.versions.reset(group, seq);
    await this.threads.reload(group);
    for (const { id, mine } of await this.threads.writtenAfter(group, latestAt).catch(() => [])) this.reads.noted(id, seq, mine);
    this.changed();
  }

  /** Ask once for persistent storage, when there are keys. */
  async #persist() {
    if (this.persisted !== undefined) return;
    this.persisted = false;
    this.persisted = await this.#around.persist();
    this.changed();
  }

  // Sending

  /** @param {Group} group @param {string} title @param {string} body */
  writeThread(group, title, body) {
    return this.writer.thread(group, title, body);
  }

  /** @param {Group} group @param {string} threadId @param {string} body */
  writeReply(group, threadId, body) {
    this.#around.client.typing(threadId, false);
    return this.writer.reply(group, threadId, body);
  }

  /** Handle the server's answer to a sent text. @param {string} key @param {any} answer @param {any} [sealed] */
  async sent(key, answer, sealed) {
    await this.writer.sent(key, answer, sealed);
    this.#emit('sent', { key, threadId: answer.thread_id });
    this.changed();
  }

  /** Report that the member is typing in a thread. @param {string} threadId */
  typing(threadId) {
    this.#around.client.typing(threadId);
  }

  /** The number of texts and photos that are not sent yet. */
  get toSend() {
    return this.outbox.toSend + this.uploads.toSend;
  }

  /** Whether the connection is open and every group has caught up. */
  get caughtUp() {
    return this.state.status === 'open' && this.loaded === 'yes' && [...this.groups.values()].every(({ caughtUp }) => caughtUp);
  }

  // Read marks

  /** @param {Group} group */
  unreadIn(group) {
    return [...group.threads.keys()].filter((id) => this.reads.unread(id)).length;
  }

  /** Mark a visible thread as read. @param {Thread} thread */
  markRead(thread) {
    if (this.reads.markRead(thread.id)) this.changed();
  }

  /** @param {Thread} thread */
  #readNow(thread) {
    if (this.reading === thread.id && this.#around.visible()) this.markRead(thread);
  }

  /** Report full storage, once. */
  #full() {
    if (this.#noRoom) return;
    this.#noRoom = true;
    this.#emit('trouble', 'The storage of this browser is full: what you write is saved only while this page is open.');
  }
}
