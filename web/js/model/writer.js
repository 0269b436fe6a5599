/** Seals what the member writes, and puts it into its thread once the server has it. */
import { seal } from '../crypto/envelope.js';

/** @import {Outbox} from './outbox.js' */
/** @import {Threads} from './threads.js' */
/** @import {Group, Session} from './types.js' */
/** @import {Versions} from './versions.js' */

/** The member's own threads and replies. */
export class Writer {
  #around;

  /** @param {{session: Session, outbox: Outbox, threads: Threads, groups: Map<string, Group>, versions: Versions}} around */
  constructor(around) {
    this.#around = around;
  }

  /** @param {Group} group @param {string} title @param {string} body @returns {Promise<string>} Its key in the outbox. */
  async thread(group, title, body) {
    if (group.version === 2) return (await this.#around.versions.load()).thread(group.id, title, body);
    const key = /** @type {CryptoKey} */ (group.key);
    const encrypted_title = await seal(key, group.id, 'thread-title', title);
    const encrypted_body = await seal(key, group.id, 'thread-body', body);
    return this.#around.outbox.send(group.id, { type: 'thread', encrypted_title, encrypted_body }, { threadId: undefined, title, body });
  }

  /** @param {Group} group @param {string} threadId @param {string} body @returns {Promise<string>} Its key in the outbox. */
  async reply(group, threadId, body) {
    if (group.version === 2) return (await this.#around.versions.load()).reply(group.id, threadId, body);
    const key = /** @type {CryptoKey} */ (group.key);
    const encrypted_body = await seal(key, group.id, `reply/${threadId}`, body);
    return this.#around.outbox.send(group.id, { type: 'reply', thread_id: threadId, encrypted_body }, { threadId, title: null, body });
  }

  /**
   * Handle the server's answer to a sent text: it is in its thread before its event arrives.
   *
   * @param {string} key
   * @param {any} answer
   * @param {any} [sealed] What was sent, where the outbox does not know it.
   */
  async sent(key, answer, sealed) {
    const { session, outbox, threads, groups } = this.#around;
    const draft = outbox.sent(key);
    const group = draft && groups.get(draft.groupId);
    if (!draft || !group) return;
    const { user_id: author_id, username: author_username } = session;
    const { encrypted_title, encrypted_body } = draft.draft ?? sealed;
    const { thread_id, reply_id, created_at, seq = 0 } = answer;
    const made = { author_id, author_username, encrypted_body, created_at };
    if (draft.threadId) {
      const thread = group.threads.get(draft.threadId);
      if (!thread) return;
      await threads.addReply(group, thread, { ...made, reply_id, thread_id: draft.threadId, seq });
      const atMs = Date.parse(created_at);
      threads.posted(thread, { seq, atMs, author: author_username, mine: true, kind: 'reply', text: draft.body });
    } else if (!group.threads.has(thread_id)) {
      const thread = await threads.opened({ ...made, thread_id, group_id: group.id, encrypted_title }, group, seq);
      if (!group.threads.has(thread.id)) group.threads.set(thread.id, thread);
    }
  }
}
