/** Applies events to the model. */

/** @import {OrbitalEvent} from '/sdk/wire.js' */
/** @import {Outbox} from './outbox.js' */
/** @import {People} from './people.js' */
/** @import {ReadMarks} from './reads.js' */
/** @import {Threads} from './threads.js' */
/** @import {Group, News, Thread} from './types.js' */
/** @import {Typists} from './typing.js' */
/** @import {Uploads} from './uploads.js' */

/** Time that a new member usually needs from joining to connecting. */
const JOINED_MS = 2000;

/**
 * @typedef {object} Parts
 * @property {string} userId
 * @property {Outbox} outbox
 * @property {People} people
 * @property {ReadMarks} reads
 * @property {Threads} threads
 * @property {Typists} typists
 * @property {Uploads} uploads
 * @property {(news: News) => void} news
 */

/** Threads of one group that are announced after a catch-up; the unread marks show all. */
const ANNOUNCED = 3;

/** Applies the events of all groups, each once and in the order of its group. */
export class Events {
  #parts;
  /** @type {Map<string, Map<string, News>>} By group: what was missed while the connection was lost, by thread, latest last. */
  #missed = new Map();

  /** @param {Parts} parts */
  constructor(parts) {
    this.#parts = parts;
  }

  /** @param {Group} group @param {OrbitalEvent} event */
  async apply(group, event) {
    const { reads, people } = this.#parts;
    switch (event.type) {
      case 'new_thread':
        await this.#thread(group, event);
        break;
      case 'new_reply':
        await this.#reply(group, event);
        break;
      case 'media_uploaded':
        await this.#medium(group, event);
        break;
      case 'media_expired': {
        const item = group.threads.get(event.data.thread_id)?.items.get(event.data.media_id);
        if (item) item.gone = true;
        break;
      }
      case 'role_changed':
        void people.load(group);
        break;
      case 'member_joined':
      case 'member_left':
        this.#member(group, event);
        break;
      default:
        break;
    }
    reads.received(group.id, event.server_timestamp);
    const author = 'author_id' in event.data && typeof event.data.author_id === 'string' ? event.data.author_id : undefined;
    // An author who was offline may be online now.
    if (group.caughtUp && author && !group.online.has(author)) people.lookFor(group, author, Date.now());
  }

  /** @param {Group} group @param {OrbitalEvent & {type: 'new_thread'}} event */
  async #thread(group, { data, seq }) {
    const { outbox, reads, threads, userId } = this.#parts;
    outbox.arrived(data.encrypted_body);
    const mine = data.author_id === userId;
    reads.noted(data.thread_id, seq, mine);
    if (group.threads.has(data.thread_id)) return;
    const thread = await threads.opened(data, group, seq);
    // A new thread is empty; its replies arrive as separate events.
    if (!group.threads.has(thread.id)) group.threads.set(thread.id, thread);
    if (!mine) this.#news('thread', group, thread, thread.author, thread.title);
  }

  /** @param {Group} group @param {OrbitalEvent & {type: 'new_reply'}} event */
  async #reply(group, { data, seq }) {
    const { outbox, reads, threads, typists, userId } = this.#parts;
    typists.stopped(data.thread_id, data.author_id);
    const mine = data.author_id === userId;
    const thread = await threads.find(group, data.thread_id);
    const known = thread?.items.has(data.reply_id);
    reads.noted(data.thread_id, seq, mine);
    if (thread) await threads.addReply(group, thread, { ...data, seq });
    outbox.arrived(data.encrypted_body);
    threads.countSoon(group, data.thread_id);
    const item = thread?.items.get(data.reply_id);
    if (thread && item) threads.posted(thread, { ...item, seq, kind: 'reply' });
    if (thread && item && !known && !mine) this.#news('reply', group, thread, item.author, item.text);
  }

  /** @param {Group} group @param {OrbitalEvent & {type: 'media_uploaded'}} event */
  async #medium(group, { data, seq, server_timestamp }) {
    const { reads, threads, uploads, userId } = this.#parts;
    const mine = data.author_id === userId;
    const thread = await threads.find(group, data.thread_id);
    const known = thread?.items.has(data.media_id);
    reads.noted(data.thread_id, seq, mine);
    if (thread) await threads.addMedium(group, thread, { ...data, seq }, server_timestamp);
    uploads.arrived(data.media_id);
    threads.countSoon(group, data.thread_id);
    const item = thread?.items.get(data.media_id);
    if (thread && item) threads.posted(thread, { ...item, seq, kind: 'media', text: null });
    if (thread && item && !known && !mine) this.#news('media', group, thread, item.author, 'a photo');
  }

  /** @param {Group} group @param {OrbitalEvent & {type: 'member_joined' | 'member_left'}} event */
  #member(group, event) {
    const { people, typists, userId } = this.#parts;
    const { data } = event;
    if (data.user_id === userId) return;
    if (event.type === 'member_joined') {
      people.moved(group, 'joined', data, event);
      // A new member is about to connect.
      setTimeout(() => void people.load(group), JOINED_MS);
    } else {
      people.moved(group, event.data.reason, data, event);
      typists.left(group.threads.keys(), data.user_id);
    }
    void people.load(group);
  }

  /** @param {News['kind']} kind @param {Group} group @param {Thread} thread @param {string} author @param {string | null} text */
  #news(kind, group, thread, author, text) {
    const news = { kind, group, thread, author, text: text ?? 'something that cannot be opened here', more: 0 };
    if (group.caughtUp) return this.#parts.news(news);
    // Without an entry the group never caught up: what arrives is the past, not news.
    const missed = this.#missed.get(group.id);
    if (!missed) return;
    const had = missed.get(thread.id);
    if (had) news.more = had.more + 1;
    missed.delete(thread.id);
    missed.set(thread.id, news);
    const [oldest] = missed.keys();
    if (oldest && missed.size > ANNOUNCED) missed.delete(oldest);
  }

  /** A group has caught up: announce the threads with unread events that were missed, once each. @param {Group} group */
  caughtUp(group) {
    group.caughtUp = true;
    const missed = this.#missed.get(group.id)?.values() ?? [];
    this.#missed.set(group.id, new Map());
    for (const news of missed) if (this.#parts.reads.unread(news.thread.id)) this.#parts.news(news);
  }

  /** The member has left a group. @param {string} groupId */
  forget(groupId) {
    this.#missed.delete(groupId);
  }
}
