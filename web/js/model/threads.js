/** Threads, replies and media as the server lists them, opened for this member. */
/** @import {RestMethods} from '/sdk/rest.js' */
/** @import {Group, Thread} from './types.js' */
/** @import {Versions} from './versions.js' */

/** Threads in one page of the list; the server gives 100 at most. */
const PAGE = 50;
/** Replies in one request. */
const REPLIES = 100;
/** Delay after which a burst of events causes one request for counts. */
const COUNT_DELAY_MS = 120;
/** Tolerated error of the device's clock: within it, only the server decides whether a photo has expired. */
const CLOCK_MS = 2 * 86_400_000;

/**
 * @typedef {object} Surroundings
 * @property {RestMethods} api
 * @property {Versions} versions
 * @property {string} userId
 * @property {<T>(question: () => Promise<T>) => Promise<T>} ask
 * @property {(userId: string | undefined, username: string | undefined) => string} nameOf
 * @property {(thread: Thread) => void} counted A thread's numbers are exact now.
 * @property {() => void} changed
 */

/** Loads the threads of groups and the items of threads. An item that cannot be decrypted never stops the others. */
export class Threads {
  #around;
  /** @type {Map<string, ReturnType<typeof setTimeout>>} */
  #counting = new Map();

  /** @param {Surroundings} around */
  constructor(around) {
    this.#around = around;
  }

  stop() {
    for (const timer of this.#counting.values()) clearTimeout(timer);
    this.#counting.clear();
  }

  /**
   * @param {Omit<import('/sdk/rest.js').Thread, 'reply_count' | 'media_count'> | import('/sdk/wire.js').NewThread} found
   * @param {Group} group
   * @param {number} [seq] Of its event, where it is one.
   * @returns {Promise<Thread>}
   */
  async opened(found, group, seq = 0) {
    const { versions } = this.#around;
    const carrier = { which: found.thread_id, author: found.author_id };
    const { reply_count = 0, media_count = 0, ...last } = /** @type {Partial<import('/sdk/rest.js').Thread>} */ (found);
    const author = this.#around.nameOf(found.author_id, found.author_username);
    const mine = found.author_id === this.#around.userId;
    const atMs = Date.parse(found.created_at);
    return {
      id: found.thread_id,
      author,
      mine,
      atMs,
      last: last.last_seq ? await this.#lastOf(found.thread_id, last, group) : { seq, atMs, author, mine, kind: 'thread', text: null },
      title: await versions.open(group, 'thread-title', found.encrypted_title, carrier),
      body: await versions.open(group, 'thread-body', found.encrypted_body, carrier),
      waits: versions.waits(group, found.thread_id),
      replies: reply_count,
      photos: media_count,
      items: new Map(),
      loaded: 'no',
    };
  }

  /**
   * @param {string} threadId
   * @param {Partial<import('/sdk/rest.js').Thread>} found
   * @param {Group} group
   * @returns {Promise<import('./types.js').Activity>}
   */
  async #lastOf(threadId, found, group) {
    const { last_seq = 0, last_activity_at = '', last_author_id, last_author_username, last_encrypted_body, created_at } = found;
    const reply = typeof last_encrypted_body === 'string';
    return {
      seq: last_seq,
      atMs: Date.parse(last_activity_at),
      author: this.#around.nameOf(last_author_id, last_author_username),
      mine: last_author_id === this.#around.userId,
      kind: reply ? 'reply' : last_activity_at === created_at ? 'thread' : 'media',
      text: reply
        ? await this.#around.versions.open(group, `reply/${threadId}`, last_encrypted_body, { which: last_seq, author: last_author_id })
        : null,
    };
  }

  /** Note what was posted in a thread, unless something later is known. @param {Thread} thread @param {import('./types.js').Activity} last */
  posted(thread, last) {
    if (last.seq > thread.last.seq) thread.last = last;
  }

  /** Load the next page of the list. @param {Group} group */
  loadOlder(group) {
    // A thread that was opened by its address may stand far below the loaded pages.
    return this.loadPage(group, [...group.threads.values()].filter(({ last }) => last.seq >= group.listedTo).length);
  }

  /**
   * Load a page of a group's threads. Without an answer, loaded threads stay unchanged.
   *
   * @param {Group} group
   * @param {number} [offset]
   * @returns {Promise<boolean>} Whether the server answered.
   */
  async loadPage(group, offset = 0) {
    const { api, ask, changed } = this.#around;
    const before = group.loaded;
    if (before === 'loading') return false;
    group.loaded = 'loading';
    changed();
    try {
      const { threads, has_more } = await ask(() => api.threads(group.id, { limit: PAGE, offset, sort: 'active_desc' }));
      for (const found of threads) {
        const thread = await this.opened(found, group);
        const had = group.threads.get(thread.id);
        if (had) {
          Object.assign(had, {
            title: thread.title,
            body: thread.body,
            waits: thread.waits,
            replies: thread.replies,
            photos: thread.photos,
          });
          this.posted(had, thread.last);
        } else group.threads.set(thread.id, thread);
        group.listedTo = thread.last.seq;
      }
      group.more = has_more;
      group.loaded = 'yes';
    } catch {
      group.loaded = before === 'yes' ? 'yes' : 'failed';
      changed();
      return false;
    }
    changed();
    return true;
  }

  /** Load a group again, with the threads that are open. @param {Group} group */
  async reload(group) {
    const open = [...group.threads.values()].filter(({ loaded }) => loaded !== 'no').map(({ id }) => id);
    group.threads.clear();
    group.listedTo = 0;
    group.loaded = 'no';
    await this.loadPage(group);
    for (const id of open) {
      const thread = await this.find(group, id);
      if (thread) void this.load(group, thread);
    }
  }

  /** Load one thread that is not in the loaded pages. @param {Group} group @param {string} id */
  async loadOne(group, id) {
    const { api, ask, changed } = this.#around;
    const found = await ask(() => api.thread(id));
    const thread = found.group_id === group.id ? await this.opened(found, group) : undefined;
    if (thread && !group.threads.has(id)) group.threads.set(id, thread);
    changed();
  }

  /** Return the thread of an event, loaded if it is not in the loaded pages; undefined without an answer. @param {Group} group @param {string} id */
  async find(group, id) {
    if (!group.threads.has(id)) await this.loadOne(group, id).catch(() => {});
    return group.threads.get(id);
  }

  /** Load all replies and media of a thread. @param {Group} group @param {Thread} thread */
  async load(group, thread) {
    const { api, ask, changed } = this.#around;
    if (thread.loaded === 'loading') return;
    thread.loaded = 'loading';
    changed();
    try {
      const { media } = await ask(() => api.thread(thread.id));
      for (const one of media) await this.addMedium(group, thread, one, Date.parse(one.uploaded_at));
      for (let offset = 0, more = true; more; offset += REPLIES) {
        const page = await ask(() => api.replies(thread.id, { limit: REPLIES, offset }));
        for (const found of page.replies) await this.addReply(group, thread, found);
        more = page.has_more;
      }
      thread.loaded = 'yes';
      this.#count(thread);
    } catch {
      thread.loaded = 'failed';
    }
    changed();
  }

  /** Fetch what is new in a thread that is loaded, without a connection. @param {Group} group @param {Thread} thread */
  async update(group, thread) {
    const { api, ask, changed } = this.#around;
    const offset = [...thread.items.values()].filter(({ kind }) => kind === 'reply').length;
    const { replies } = await ask(() => api.replies(thread.id, { limit: REPLIES, offset }));
    for (const found of replies) await this.addReply(group, thread, found);
    const { media } = await ask(() => api.thread(thread.id));
    for (const one of media) await this.addMedium(group, thread, one, Date.parse(one.uploaded_at));
    changed();
  }

  /** @param {Group} group @param {Thread} thread @param {import('/sdk/wire.js').NewReply & {seq: number}} found */
  async addReply(group, thread, found) {
    if (thread.items.has(found.reply_id)) return;
    const { versions } = this.#around;
    const carrier = { which: found.reply_id, author: found.author_id };
    const text = await versions.open(group, `reply/${thread.id}`, found.encrypted_body, carrier);
    const waits = text === null && versions.waits(group, found.reply_id);
    const author = this.#around.nameOf(found.author_id, found.author_username);
    const mine = found.author_id === this.#around.userId;
    const atMs = Date.parse(found.created_at);
    thread.items.set(found.reply_id, { kind: 'reply', id: found.reply_id, seq: found.seq, author, mine, atMs, text, waits });
    this.#count(thread);
  }

  /**
   * @param {Group} group
   * @param {Thread} thread
   * @param {{media_id: string, seq: number, encrypted_metadata: string, size_bytes: number, expires_at: string, author_id?: string, author_username?: string}} found
   * @param {number} atMs
   */
  async addMedium(group, thread, found, atMs) {
    if (thread.items.has(found.media_id)) return;
    const { versions } = this.#around;
    const info = await versions.mediaInfo(group, found.encrypted_metadata, { which: found.media_id, author: found.author_id });
    const gone = Date.parse(found.expires_at) + CLOCK_MS < Date.now();
    thread.items.set(found.media_id, {
      kind: 'media',
      id: found.media_id,
      seq: found.seq,
      author: this.#around.nameOf(found.author_id, found.author_username),
      mine: found.author_id === this.#around.userId,
      atMs,
      text: null,
      info,
      waits: info === null && versions.waits(group, found.media_id),
      bytes: found.size_bytes,
      gone,
    });
    this.#count(thread);
  }

  /**
   * Something that could not be read can be read now.
   *
   * @param {Group} group
   * @param {{seq: number, author: string, data: Record<string, any>}} found
   */
  async reread(group, { seq, author, data: { thread_id, reply_id, media_id } }) {
    const { versions, changed } = this.#around;
    const thread = group.threads.get(thread_id);
    if (!thread) return;
    const read = (/** @type {string} */ which, /** @type {number} */ part) => versions.cipher?.text(group.id, which, author, part) ?? null;
    const item = thread.items.get(reply_id ?? media_id);
    if (media_id && item) item.info = versions.readInfo(group, media_id, author);
    else if (item) item.text = read(reply_id, 0);
    else if (!reply_id && !media_id) Object.assign(thread, { title: read(thread_id, 0), body: read(thread_id, 1), waits: false });
    if (item) item.waits = false;
    if (reply_id && thread.last.seq === seq) thread.last.text = read(reply_id, 0);
    changed();
  }

  /** Count the items of a loaded thread. @param {Thread} thread */
  #count(thread) {
    if (thread.loaded !== 'yes') return;
    const media = [...thread.items.values()].filter(({ kind }) => kind === 'media').length;
    thread.photos = media;
    thread.replies = thread.items.size - media;
    this.#around.counted(thread);
  }

  /** Request a thread's counts: an event does not say whether the known count includes it. @param {Group} group @param {string} id */
  countSoon(group, id) {
    clearTimeout(this.#counting.get(id));
    const count = async () => {
      this.#counting.delete(id);
      const had = group.threads.get(id);
      if (had?.loaded === 'yes') return;
      try {
        const found = await this.#around.api.thread(id);
        if (had) Object.assign(had, { replies: found.reply_count, photos: found.media_count });
        else group.threads.set(id, await this.opened(found, group));
      } catch {
        // The list is read again with the next reset, and the thread when it is opened.
      }
      this.#around.changed();
    };
    this.#counting.set(id, setTimeout(count, COUNT_DELAY_MS));
  }

  /**
   * After a reset, find the threads with content newer than a time.
   *
   * @param {Group} group Its threads are loaded.
   * @param {number} afterMs The server's time.
   * @returns {Promise<Thread[]>}
   */
  async writtenAfter(group, afterMs) {
    const { api } = this.#around;
    const found = [];
    for (const thread of [...group.threads.values()]) {
      let latest = thread.atMs;
      if (thread.replies) {
        const { replies } = await api.replies(thread.id, { limit: 1, offset: thread.replies - 1 });
        latest = Math.max(latest, ...replies.map(({ created_at }) => Date.parse(created_at)));
      }
      if (thread.photos) {
        const { media } = await api.thread(thread.id);
        latest = Math.max(latest, ...media.map(({ uploaded_at }) => Date.parse(uploaded_at)));
      }
      if (latest > afterMs) found.push(thread);
    }
    return found;
  }
}
