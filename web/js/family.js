/** What a member knows: groups, threads, replies, who is there. It opens what comes and seals what goes; it never touches the page. */
import { OrbitalClient } from '/sdk/client.js';
import { localStorageStore } from '/sdk/stores.js';
import * as crypt from './crypto.js';
import { Recorder } from './traffic-recorder.js';
import { Transfers } from './transfers.js';
import * as vault from './vault.js';

/** Threads in one page of the list; the server gives 100 at most. */
const PAGE = 50;
/** Replies in one request. */
const REPLIES = 100;
/** Counts are asked for once after a burst of events. */
const COUNT_DELAY_MS = 120;
/** The server says itself that somebody stopped, after 6 s; this is for when that is lost. */
const TYPING_MS = 8000;
/** So much a device's clock may be wrong: whether a photo is still there is the server's to say before that. */
const CLOCK_MS = 2 * 86_400_000;
/** Between two looks for an author who posts without a connection. */
const AUTHOR_MS = 60_000;
/** From joining to being connected. */
const JOINED_MS = 2000;

/** @typedef {{user_id: string, username: string, token: string}} Session */
/** @typedef {{user_id: string, username: string, joined_at: string}} Member */
/** @typedef {{name: string, type: string, width?: number, height?: number, by: string}} MediaInfo What is sealed beside a photo. */

/**
 * One thing in a thread, in the order of time.
 *
 * @typedef {object} Item
 * @property {'reply' | 'media'} kind
 * @property {string} id
 * @property {string} author
 * @property {boolean} mine
 * @property {number} atMs
 * @property {string | null} text Null when it cannot be opened.
 * @property {MediaInfo | null} [info]
 * @property {number} [bytes]
 * @property {boolean} [gone] No longer relayed.
 */

/**
 * @typedef {object} Thread
 * @property {string} id
 * @property {string} author
 * @property {boolean} mine
 * @property {number} atMs
 * @property {string | null} title
 * @property {string | null} body
 * @property {number} replies
 * @property {number} photos
 * @property {Map<string, Item>} items
 * @property {'no' | 'loading' | 'yes' | 'failed'} loaded
 */

/**
 * @typedef {object} Group
 * @property {string} id
 * @property {string | null} name Null when it cannot be opened.
 * @property {CryptoKey | undefined} key
 * @property {string} code
 * @property {string} wrapped
 * @property {number} memberCount
 * @property {Map<string, Thread>} threads
 * @property {boolean} more
 * @property {'no' | 'loading' | 'yes' | 'failed'} loaded
 * @property {Member[]} members
 * @property {Set<string>} online
 * @property {boolean} caughtUp
 * @property {any} subscription
 */

/**
 * What was written here and is not yet with the server.
 *
 * @typedef {object} Waiting
 * @property {string} key
 * @property {string} groupId
 * @property {string | undefined} threadId Left out for a new thread.
 * @property {string | null} title
 * @property {string | null} body
 * @property {number} atMs
 * @property {string} sealed
 * @property {any} draft
 * @property {string} [error]
 */

/** @typedef {{kind: 'thread' | 'reply' | 'media', group: Group, thread: Thread, author: string, text: string}} News */

/** Tells `change` when anything is to be shown anew, `news`, `removed`, `trouble`, and `ended` when the session is over. */
export class Family extends EventTarget {
  /** @type {Map<string, Group>} */
  groups = new Map();
  /** @type {Waiting[]} */
  waiting = [];
  /** @type {Map<string, Map<string, {username: string, timer: any}>>} Who writes, by thread. */
  typists = new Map();
  /** @type {import('/sdk/connection.js').ConnectionState} */
  state = { status: 'connecting' };
  loaded = false;
  loadFailed = false;
  /** @type {string | undefined} The thread that is open before the reader's eyes. */
  reading;
  recorder = new Recorder();
  /** @type {CryptoKeyPair | undefined} */
  identity;
  #client;
  /** @type {Map<string, any>} */
  #counting = new Map();
  /** @type {{threads: Record<string, number>, groups: Record<string, number>}} How much of each was read. */
  #read = { threads: {}, groups: {} };
  #over = false;
  /** @type {Map<string, number>} When an author of a group was last looked for among those who are connected. */
  #lookedFor = new Map();
  #told = false;

  /** @param {Session} session */
  constructor(session) {
    super();
    this.session = session;
    const { recorder } = this;
    this.#client = new OrbitalClient(undefined, {
      token: session.token,
      store: localStorageStore(`orbital:${session.user_id}:`),
      verify: true,
      WebSocket: recorder.WebSocket,
      fetch: /** @type {any} */ (recorder.fetch),
    });
    this.transfers = new Transfers(this, this.#client);
    const client = this.#client;
    client.on('state', (state) => {
      this.state = state;
      if (state.status !== 'open') for (const group of this.groups.values()) group.caughtUp = false;
      if (state.status === 'closed' && state.code === 1008) this.#end();
      if (state.status === 'open') void this.#opened();
      this.changed();
    });
    client.on('typing_indicator', ({ thread_id, user_id, username, is_typing }) => this.#typing(thread_id, user_id, username, is_typing));
    client.on('sent', ({ key, answer }) => void this.#sent(key, answer));
    client.on('failed', ({ key, error }) => {
      const draft = this.waiting.find((one) => one.key === key);
      if (draft) draft.error = error.message;
      this.changed();
    });
    client.on('error', (error) => {
      if (error.status === 401) this.#end();
      else if (/** @type {any} */ (error.cause)?.name === 'QuotaExceededError') this.#full();
      else console.warn('orbital:', error.code, error.message);
    });
    try {
      this.#read = { ...this.#read, ...JSON.parse(localStorage.getItem(this.#readName) ?? '{}') };
    } catch {
      // Marks that cannot be read are made anew.
    }
    addEventListener('storage', this.#readElsewhere);
  }

  get api() {
    return this.#client.api;
  }

  get #readName() {
    return `orbital-read:${this.session.user_id}`;
  }

  changed() {
    this.dispatchEvent(new Event('change'));
  }

  /** @param {string} name @param {unknown} detail */
  #tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  /** Connect, and load what is there. */
  async start() {
    this.identity = await vault.keys.get(vault.identityName(this.session.user_id));
    if (!this.identity) {
      this.identity = await crypt.newIdentity();
      await vault.keys.set(vault.identityName(this.session.user_id), this.identity);
    }
    this.#client.connect();
    await this.#restore();
    await this.sync();
  }

  /** Show what an earlier run of this page could not send. */
  async #restore() {
    const restored = new Set();
    for (const { key, group_id, draft, created_at } of await this.#client.pending()) {
      if (this.waiting.some((one) => one.key === key) || draft.type === 'message') continue;
      // The server may be away, and with it the list of groups: the key is here.
      const groupKey = await vault.keys.get(vault.groupKeyName(this.session.user_id, group_id));
      const threadId = draft.type === 'reply' ? draft.thread_id : undefined;
      restored.add(key);
      this.waiting.push({
        key,
        groupId: group_id,
        threadId,
        title: draft.type === 'thread' ? await crypt.open(groupKey, group_id, 'thread-title', draft.encrypted_title) : null,
        body: await crypt.open(groupKey, group_id, threadId ? `reply/${threadId}` : 'thread-body', draft.encrypted_body),
        atMs: created_at,
        sealed: draft.encrypted_body,
        draft,
      });
    }
    // What was sent meanwhile is in its thread.
    const left = new Set((await this.#client.pending()).map(({ key }) => key));
    this.waiting = this.waiting.filter(({ key, error }) => error || left.has(key) || !restored.has(key));
    this.changed();
  }

  /** Try at once: a person asked for it. */
  wake() {
    this.#client.connect();
  }

  stop() {
    this.#over = true;
    removeEventListener('storage', this.#readElsewhere);
    this.transfers.stop();
    this.#client.close();
  }

  #end() {
    if (this.#over) return;
    this.stop();
    this.#tell('ended', undefined);
  }

  /**
   * Ask the server; a refused token ends the session.
   *
   * @template T
   * @param {() => Promise<T>} question
   * @returns {Promise<T>}
   */
  async ask(question) {
    try {
      return await question();
    } catch (error) {
      if (/** @type {any} */ (error).code === 'UNAUTHORIZED') this.#end();
      throw error;
    }
  }

  /** A line was opened: ask again for what could not be had without one. */
  async #opened() {
    if (this.loadFailed || !this.loaded) await this.sync();
    for (const group of this.groups.values()) {
      if (group.loaded === 'failed') void this.loadThreads(group);
      for (const thread of group.threads.values()) if (thread.loaded === 'failed') void this.loadThread(group, thread);
      void this.loadMembers(group);
    }
  }

  // Groups

  /** Look which groups there are. */
  async sync() {
    try {
      const found = await this.ask(() => this.api.groups());
      this.loadFailed = false;
      for (const id of this.groups.keys()) if (!found.some(({ group_id }) => group_id === id)) this.#forget(id);
      await Promise.all(found.map((one) => this.#take(one)));
      this.loaded = true;
    } catch {
      this.loadFailed = true;
    }
    this.changed();
  }

  /** @param {import('/sdk/rest.js').Group} found */
  async #take(found) {
    const id = found.group_id;
    const key = await this.#keyOf(id, found.encrypted_group_key);
    const name = await crypt.open(key, '', 'group-name', found.encrypted_name);
    let group = this.groups.get(id);
    if (group) {
      Object.assign(group, { key, name, code: found.invite_code ?? '', wrapped: found.encrypted_group_key, memberCount: found.member_count });
      return;
    }
    /** @type {Group} */
    const made = {
      id,
      name,
      key,
      code: found.invite_code ?? '',
      wrapped: found.encrypted_group_key,
      memberCount: found.member_count,
      threads: new Map(),
      more: false,
      loaded: 'no',
      members: [],
      online: new Set(),
      caughtUp: false,
      subscription: undefined,
    };
    this.groups.set(id, made);
    made.subscription = this.#client.subscribe(id, {
      since: found.last_seq ?? 0,
      onEvent: (event) => this.#heard(made, event),
      onReset: () => this.#reset(made),
      onCaughtUp: () => {
        made.caughtUp = true;
        void this.loadMembers(made);
        this.changed();
      },
      onEnd: (error) => {
        if (!error || !this.groups.has(id)) return;
        this.#forget(id);
        this.#tell('removed', made);
      },
    });
    void this.loadMembers(made);
    await this.loadThreads(made);
  }

  /** @param {string} id @param {string} wrapped */
  async #keyOf(id, wrapped) {
    const name = vault.groupKeyName(this.session.user_id, id);
    /** @type {CryptoKey | undefined} */
    const kept = await vault.keys.get(name);
    if (kept) return kept;
    const raw = await crypt.unwrapGroupKey(this.identity, wrapped);
    if (!raw) return undefined;
    const key = await crypt.importGroupKey(raw);
    await vault.keys.set(name, key);
    return key;
  }

  /** @param {string} id */
  #forget(id) {
    const group = this.groups.get(id);
    this.groups.delete(id);
    group?.subscription?.close();
    this.changed();
  }

  /** Make a group. @param {string} name @returns {Promise<string>} Its id. */
  async createGroup(name) {
    const raw = crypt.newGroupKey();
    const key = await crypt.importGroupKey(raw);
    const encrypted_name = await crypt.seal(key, '', 'group-name', name);
    const encrypted_group_key = await crypt.wrapGroupKey(/** @type {CryptoKeyPair} */ (this.identity), raw);
    const { group_id } = await this.ask(() => this.api.createGroup({ encrypted_name, encrypted_group_key }));
    await vault.keys.set(vault.groupKeyName(this.session.user_id, group_id), key);
    this.#read.groups[group_id] = 1;
    await this.sync();
    return group_id;
  }

  /**
   * Join a group, or bring its key to this device when already a member.
   *
   * @param {string} code
   * @param {Uint8Array<ArrayBuffer>} raw The group's key.
   * @returns {Promise<string>} The group's id.
   */
  async join(code, raw) {
    const encrypted_group_key = await crypt.wrapGroupKey(/** @type {CryptoKeyPair} */ (this.identity), raw);
    const key = await crypt.importGroupKey(raw);
    let id;
    try {
      ({ group_id: id } = await this.ask(() => this.api.joinGroup({ invite_code: code.toUpperCase(), encrypted_group_key })));
    } catch (error) {
      if (/** @type {any} */ (error).code !== 'ALREADY_MEMBER') throw error;
      await this.sync();
      const known = [...this.groups.values()].find((group) => group.code === code.toUpperCase());
      if (!known) throw error;
      if (!known.key) await this.bringKey(known, raw);
      return known.id;
    }
    await vault.keys.set(vault.groupKeyName(this.session.user_id, id), key);
    await this.sync();
    return id;
  }

  /**
   * Use a key for a group whose key is not on this device.
   *
   * @param {Group} group
   * @param {Uint8Array<ArrayBuffer>} raw
   * @throws When it does not open the group's name.
   */
  async bringKey(group, raw) {
    const key = await crypt.importGroupKey(raw);
    const found = (await this.ask(() => this.api.groups())).find(({ group_id }) => group_id === group.id);
    if (!found || (await crypt.open(key, '', 'group-name', found.encrypted_name)) === null)
      throw new Error('This key does not open this group. Ask for the link once more.');
    await vault.keys.set(vault.groupKeyName(this.session.user_id, group.id), key);
    Object.assign(group, { key, name: await crypt.open(key, '', 'group-name', found.encrypted_name) });
    await this.#reset(group);
  }

  /**
   * The key as it stands in a link. The key in use cannot be read out; the one that only this member can unwrap is on the server.
   *
   * @param {Group} group
   * @returns {Promise<string | null>} Null when it was wrapped on another device.
   */
  async keyText(group) {
    const raw = await crypt.unwrapGroupKey(this.identity, group.wrapped);
    return raw && crypt.keyToText(raw);
  }

  /** @param {Group} group @returns {Promise<void>} */
  async newCode(group) {
    group.code = (await this.ask(() => this.api.newInviteCode(group.id))).invite_code;
    this.changed();
  }

  /** Leave, or remove somebody. @param {Group} group @param {string} [userId] */
  async remove(group, userId = this.session.user_id) {
    await this.ask(() => this.api.removeMember(group.id, userId));
    if (userId !== this.session.user_id) return void this.loadMembers(group);
    await vault.keys.delete(vault.groupKeyName(userId, group.id));
    this.#forget(group.id);
  }

  /** @param {Group} group */
  async loadMembers(group) {
    if (!this.groups.has(group.id)) return;
    try {
      const [members, online] = await Promise.all([this.ask(() => this.api.members(group.id)), this.api.presence(group.id)]);
      group.members = members.sort((a, b) => (a.joined_at < b.joined_at ? -1 : 1));
      group.memberCount = members.length;
      group.online = new Set([...(this.state.status === 'open' ? [this.session.user_id] : []), ...online.map(({ user_id }) => user_id)]);
      this.changed();
    } catch {
      // Who is here is told again in a moment.
    }
  }

  // Threads

  /** @param {import('/sdk/rest.js').Thread} found @param {Group} group @returns {Promise<Thread>} */
  async #thread(found, { id, key }) {
    return {
      id: found.thread_id,
      author: found.author_username,
      mine: found.author_id === this.session.user_id,
      atMs: Date.parse(found.created_at),
      title: await crypt.open(key, id, 'thread-title', found.encrypted_title),
      body: await crypt.open(key, id, 'thread-body', found.encrypted_body),
      replies: found.reply_count ?? 0,
      photos: found.media_count ?? 0,
      items: new Map(),
      loaded: 'no',
    };
  }

  /** @param {Group} group @param {number} [offset] */
  async loadThreads(group, offset = 0) {
    if (group.loaded === 'loading') return;
    group.loaded = 'loading';
    this.changed();
    try {
      const { threads, has_more } = await this.ask(() => this.api.threads(group.id, { limit: PAGE, offset }));
      const firstTime = !(group.id in this.#read.groups);
      for (const found of threads) {
        const thread = await this.#thread(found, group);
        const had = group.threads.get(thread.id);
        if (had) Object.assign(had, { title: thread.title, body: thread.body, replies: thread.replies, photos: thread.photos });
        else group.threads.set(thread.id, thread);
        if (firstTime || offset) this.#read.threads[thread.id] ??= thread.replies + thread.photos;
      }
      this.#read.groups[group.id] = 1;
      this.#keepRead();
      group.more = has_more;
      group.loaded = 'yes';
    } catch {
      group.loaded = 'failed';
    }
    this.changed();
  }

  /** Load everything of a thread. @param {Group} group @param {Thread} thread */
  async loadThread(group, thread) {
    if (thread.loaded === 'loading') return;
    thread.loaded = 'loading';
    this.changed();
    try {
      const { media } = await this.ask(() => this.api.thread(thread.id));
      for (const one of media) await this.#medium(group, thread, one, Date.parse(one.uploaded_at));
      for (let offset = 0, more = true; more; offset += REPLIES) {
        const page = await this.api.replies(thread.id, { limit: REPLIES, offset });
        for (const found of page.replies) await this.#reply(group, thread, found);
        more = page.has_more;
      }
      thread.loaded = 'yes';
      this.#count(thread);
    } catch {
      thread.loaded = 'failed';
    }
    this.changed();
  }

  /** @param {Group} group @param {Thread} thread @param {import('/sdk/wire.js').NewReply} found */
  async #reply({ id, key }, thread, found) {
    if (thread.items.has(found.reply_id)) return;
    const text = await crypt.open(key, id, `reply/${thread.id}`, found.encrypted_body);
    const mine = found.author_id === this.session.user_id;
    thread.items.set(found.reply_id, { kind: 'reply', id: found.reply_id, author: found.author_username, mine, atMs: Date.parse(found.created_at), text });
    this.#count(thread);
  }

  /**
   * @param {Group} group
   * @param {Thread} thread
   * @param {{media_id: string, encrypted_metadata: string, size_bytes: number, expires_at: string}} found
   * @param {number} atMs
   */
  async #medium({ id, key }, thread, found, atMs) {
    if (thread.items.has(found.media_id)) return;
    const text = await crypt.open(key, id, `media-info/${found.media_id}`, found.encrypted_metadata);
    /** @type {MediaInfo | null} */
    const info = text && JSON.parse(text);
    const author = info?.by ?? 'somebody';
    const mine = author === this.session.username;
    const gone = Date.parse(found.expires_at) + CLOCK_MS < Date.now();
    thread.items.set(found.media_id, { kind: 'media', id: found.media_id, author, mine, atMs, text: null, info, bytes: found.size_bytes, gone });
    this.#count(thread);
  }

  /** Everything of it is here: its numbers are what is here. @param {Thread} thread */
  #count(thread) {
    if (thread.loaded !== 'yes') return;
    const media = [...thread.items.values()].filter(({ kind }) => kind === 'media').length;
    thread.photos = media;
    thread.replies = thread.items.size - media;
    this.#readNow(thread);
  }

  /** Ask for a thread's numbers: an event does not tell whether the number that we have counts it already. @param {Group} group @param {string} id */
  #countSoon(group, id) {
    clearTimeout(this.#counting.get(id));
    this.#counting.set(
      id,
      setTimeout(async () => {
        this.#counting.delete(id);
        const had = group.threads.get(id);
        if (had?.loaded === 'yes') return;
        try {
          const found = await this.api.thread(id);
          if (had) Object.assign(had, { replies: found.reply_count, photos: found.media_count });
          else group.threads.set(id, await this.#thread(found, group));
        } catch {
          // The list is read anew with the next reset, and the thread when it is opened.
        }
        this.changed();
      }, COUNT_DELAY_MS),
    );
  }

  /** @param {Group} group */
  async #reset(group) {
    const open = [...group.threads.values()].filter(({ loaded }) => loaded !== 'no').map(({ id }) => id);
    group.threads.clear();
    group.loaded = 'no';
    await this.loadThreads(group);
    for (const id of open) {
      const thread = group.threads.get(id);
      if (thread) void this.loadThread(group, thread);
    }
  }

  // What comes

  /** @param {Group} group @param {import('/sdk/wire.js').OrbitalEvent} event */
  async #heard(group, event) {
    const { type, data } = event;
    const live = group.caughtUp;
    if (type === 'new_thread') {
      this.#arrived(data.encrypted_body);
      if (!group.threads.has(data.thread_id)) {
        const thread = await this.#thread(/** @type {any} */ (data), group);
        // Nothing was in it when it was made; what followed comes as events of its own.
        if (!group.threads.has(thread.id)) group.threads.set(thread.id, thread);
        if (thread.mine) this.markRead(thread);
        else if (live) this.#news('thread', group, thread, thread.author, thread.title);
      }
    } else if (type === 'new_reply') {
      this.#stopped(data.thread_id, data.author_id);
      const thread = group.threads.get(data.thread_id);
      const known = thread?.items.has(data.reply_id);
      if (thread) await this.#reply(group, thread, data);
      this.#arrived(data.encrypted_body);
      const mine = data.author_id === this.session.user_id;
      if (thread && mine && thread.loaded !== 'yes') this.#raiseRead(thread);
      this.#countSoon(group, data.thread_id);
      if (thread && live && !known && !mine) this.#news('reply', group, thread, data.author_username, thread.items.get(data.reply_id)?.text ?? null);
    } else if (type === 'media_uploaded') {
      const thread = group.threads.get(data.thread_id);
      const known = thread?.items.has(data.media_id);
      if (thread) await this.#medium(group, thread, data, event.server_timestamp);
      this.transfers.arrived(data.media_id);
      this.#countSoon(group, data.thread_id);
      const item = thread?.items.get(data.media_id);
      if (thread && item?.mine && !known && thread.loaded !== 'yes') this.#raiseRead(thread);
      if (thread && item && live && !known && !item.mine) this.#news('media', group, thread, item.author, 'a photo');
    } else if (type === 'media_expired') {
      const item = group.threads.get(data.thread_id)?.items.get(data.media_id);
      if (item) item.gone = true;
    } else if ((type === 'member_joined' || type === 'member_left') && data.user_id !== this.session.user_id) {
      void this.loadMembers(group);
      // Whoever has just joined is about to connect.
      if (type === 'member_joined') setTimeout(() => void this.loadMembers(group), JOINED_MS);
    }
    const author = 'author_id' in data && typeof data.author_id === 'string' ? data.author_id : undefined;
    // An author who is not known to be connected may be now. One who posts without a connection is looked for once a minute, not at each event.
    const now = Date.now();
    if (live && author && !group.online.has(author) && !(now - (this.#lookedFor.get(group.id + author) ?? 0) < AUTHOR_MS)) {
      this.#lookedFor.set(group.id + author, now);
      void this.loadMembers(group);
    }
    this.changed();
  }

  /** @param {News['kind']} kind @param {Group} group @param {Thread} thread @param {string} author @param {string | null} text */
  #news(kind, group, thread, author, text) {
    this.#tell('news', { kind, group, thread, author, text: text ?? 'something that cannot be opened here' });
  }

  /** @param {string} threadId @param {string} userId @param {string} username @param {boolean} isTyping */
  #typing(threadId, userId, username, isTyping) {
    this.#stopped(threadId, userId);
    if (isTyping && userId !== this.session.user_id) {
      const typists = this.typists.get(threadId) ?? new Map();
      this.typists.set(threadId, typists);
      const timer = setTimeout(() => this.#typing(threadId, userId, username, false), TYPING_MS);
      typists.set(userId, { username, timer });
    }
    this.changed();
  }

  /** @param {string} threadId @param {string} userId */
  #stopped(threadId, userId) {
    const typists = this.typists.get(threadId);
    clearTimeout(typists?.get(userId)?.timer);
    typists?.delete(userId);
  }

  // What goes

  /** @param {Group} group @param {string} title @param {string} body */
  async writeThread(group, title, body) {
    const key = /** @type {CryptoKey} */ (group.key);
    const encrypted_title = await crypt.seal(key, group.id, 'thread-title', title);
    const encrypted_body = await crypt.seal(key, group.id, 'thread-body', body);
    return this.#send(group.id, undefined, title, body, { type: 'thread', encrypted_title, encrypted_body });
  }

  /** @param {Group} group @param {string} threadId @param {string} body */
  async writeReply(group, threadId, body) {
    const key = /** @type {CryptoKey} */ (group.key);
    const encrypted_body = await crypt.seal(key, group.id, `reply/${threadId}`, body);
    this.#client.typing(threadId, false);
    return this.#send(group.id, threadId, null, body, { type: 'reply', thread_id: threadId, encrypted_body });
  }

  /**
   * @param {string} groupId
   * @param {string | undefined} threadId
   * @param {string | null} title
   * @param {string | null} body
   * @param {any} draft
   */
  #send(groupId, threadId, title, body, draft) {
    const key = crypto.randomUUID();
    this.waiting.push({ key, groupId, threadId, title, body, atMs: Date.now(), sealed: draft.encrypted_body, draft });
    // What becomes of it is told by `sent` and `failed`, also after a reload.
    this.#client.send(groupId, draft, { key }).catch(() => {});
    this.changed();
    return key;
  }

  /** @param {Waiting} waiting Try a refused one again. */
  resend({ key, groupId, threadId, title, body, draft }) {
    this.discard(key);
    this.#send(groupId, threadId, title, body, draft);
  }

  /** @param {string} key Of a refused one. */
  discard(key) {
    this.waiting = this.waiting.filter((one) => one.key !== key);
    this.changed();
  }

  /** The server's answer came. @param {string} key @param {any} answer */
  async #sent(key, answer) {
    const draft = this.waiting.find((one) => one.key === key);
    if (!draft) return this.#tell('sent', { key, threadId: answer.thread_id });
    const group = this.groups.get(draft.groupId);
    const { session } = this;
    const made = { author_id: session.user_id, author_username: session.username, encrypted_body: draft.sealed, created_at: answer.created_at };
    if (group && draft.threadId) {
      const thread = group.threads.get(draft.threadId);
      if (thread) await this.#reply(group, thread, { ...made, reply_id: answer.reply_id, thread_id: draft.threadId });
    } else if (group && !group.threads.has(answer.thread_id)) {
      const found = { ...made, thread_id: answer.thread_id, group_id: group.id, encrypted_title: draft.draft.encrypted_title };
      const thread = await this.#thread(/** @type {any} */ (found), group);
      if (!group.threads.has(thread.id)) group.threads.set(thread.id, thread);
      this.markRead(thread);
    }
    this.#arrived(draft.sealed);
    this.#tell('sent', { key, threadId: answer.thread_id });
    this.changed();
  }

  /** A nonce is used once, so that equal ciphertext is the same writing. @param {string} sealed */
  #arrived(sealed) {
    const draft = this.waiting.find((one) => one.sealed === sealed);
    if (draft) this.discard(draft.key);
  }

  /** @param {string} threadId Somebody here presses keys. */
  typing(threadId) {
    this.#client.typing(threadId);
  }

  /** Whether a line is open and everything that was missed is here. */
  get caughtUp() {
    return this.state.status === 'open' && this.loaded && [...this.groups.values()].every(({ caughtUp }) => caughtUp);
  }

  // What was read

  /** @param {Thread} thread @returns {boolean} */
  unread(thread) {
    return thread.replies + thread.photos > (this.#read.threads[thread.id] ?? -1);
  }

  /** @param {Group} group */
  unreadIn(group) {
    return [...group.threads.values()].filter((thread) => this.unread(thread)).length;
  }

  /** @param {Thread} thread */
  markRead(thread) {
    const all = thread.replies + thread.photos;
    if (this.#read.threads[thread.id] === all) return;
    this.#read.threads[thread.id] = all;
    this.#keepRead();
    this.changed();
  }

  /** One of our own is no news. @param {Thread} thread */
  #raiseRead(thread) {
    if (!this.unread(thread)) this.#read.threads[thread.id] = (this.#read.threads[thread.id] ?? 0) + 1;
    this.#keepRead();
  }

  /** @param {Thread} thread */
  #readNow(thread) {
    if (this.reading === thread.id && document.visibilityState === 'visible') this.markRead(thread);
  }

  #keepRead() {
    try {
      localStorage.setItem(this.#readName, JSON.stringify(this.#read));
    } catch {
      this.#full();
    }
  }

  /** What was read in another tab is read in this one. @param {StorageEvent} event */
  #readElsewhere = ({ key, newValue }) => {
    if (key !== this.#readName || !newValue) return;
    const { threads, groups } = JSON.parse(newValue);
    for (const [id, count] of Object.entries(threads)) this.#read.threads[id] = Math.max(this.#read.threads[id] ?? -1, count);
    Object.assign(this.#read.groups, groups);
    this.changed();
  };

  /** Said once: what is not kept goes with the page. */
  #full() {
    if (this.#told) return;
    this.#told = true;
    this.#tell('trouble', 'The storage of this browser is full: what you write is kept only while this page is open.');
  }
}
