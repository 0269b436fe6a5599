/** The REST side: one method for each path of the protocol. Loaded when first used. */
import { AccountRequests } from './account-requests.js';
import { PAGE, textPage } from './log.js';

export { isEpochChanged } from './errors.js';
export { MAX_LIST } from './requests.js';

/** @import {TextPage} from './log.js' */
/** @import {Annotation, AnnotationBody, AnnotationCreated, GroupCreated, GroupJoined, InviteCode, MemberState, Messages, Online, Replies, RoleSet, Threads, ThreadWithMedia} from './api-types.js' */
/** @import {PostOptions} from './requests.js' */
/** @import {OrbitalEvent} from './wire.js' */

/** @typedef {import('./api-types.js').Thread} Thread */
/** @typedef {import('./api-types.js').ThreadReply} Reply */
/** @typedef {import('./api-types.js').Medium} Media */
/** @typedef {import('./api-types.js').MediumInfo} MediaInfo */
/** @typedef {import('./api-types.js').Message} Message */
/** @typedef {import('./api-types.js').Group} Group */
/** @typedef {import('./api-types.js').Member} Member */
/** @typedef {import('./api-types.js').Quota} Quota */
/** @typedef {import('./api-types.js').MessagePosted} MessagePosted */
/** @typedef {import('./api-types.js').ThreadCreated} ThreadPosted */
/** @typedef {import('./api-types.js').ReplyCreated} ReplyPosted */
/** @typedef {import('./api-types.js').MessageBody} MessageBody */
/** @typedef {import('./api-types.js').ThreadBody} ThreadBody */
/** @typedef {import('./api-types.js').ReplyBody} ReplyBody */
/** @typedef {Omit<OrbitalApi, 'url' | 'credentials'>} RestMethods What `client.api` has. */

const id = encodeURIComponent;

/** The server's REST side. Every method returns the answer's body, or throws an OrbitalError with the server's code. */
export class OrbitalApi extends AccountRequests {
  // Groups

  /** All groups that the caller is in. @returns {Promise<Group[]>} */
  groups() {
    return this.all('/api/groups', 'groups', 'group_id');
  }

  /** The same, one after the other, read page by page. @param {{limit?: number}} [query] @returns {AsyncGenerator<Group, void, undefined>} */
  eachGroup(query) {
    return this.each('/api/groups', 'groups', 'group_id', query);
  }

  /**
   * @param {{encrypted_name: string, encrypted_group_key: string}} body
   * @param {PostOptions} [options]
   * @returns {Promise<GroupCreated>}
   */
  createGroup(body, options) {
    return this.once('/api/groups', 'group_id', body, options);
  }

  /**
   * @param {{invite_code: string, encrypted_group_key: string}} body
   * @param {PostOptions} [options]
   * @returns {Promise<GroupJoined>}
   */
  joinGroup(body, options) {
    return this.once('/api/groups/join', 'group_id', body, options);
  }

  /** @param {string} groupId @returns {Promise<Member[]>} */
  members(groupId) {
    return this.all(`/api/groups/${id(groupId)}/members`, 'members', 'user_id');
  }

  /**
   * Remove a member (the founder or an administrator of the group), or leave (the member itself).
   *
   * @param {string} groupId
   * @param {string} userId
   * @returns {Promise<void>}
   */
  async removeMember(groupId, userId) {
    await this.json('DELETE', `/api/groups/${id(groupId)}/members/${id(userId)}`);
  }

  /**
   * Make a member an administrator of the group, or a plain member again (the founder only).
   *
   * @param {string} groupId
   * @param {string} userId
   * @param {'admin' | 'member'} role
   * @returns {Promise<RoleSet>}
   */
  setRole(groupId, userId, role) {
    return this.json('PUT', `/api/groups/${id(groupId)}/members/${id(userId)}/role`, 'role', { role });
  }

  /**
   * Replace the invite code (the founder or an administrator of the group).
   *
   * @param {string} groupId
   * @param {{singleUse?: boolean, hours?: number}} [options] `singleUse`: the first who joins by it uses it up; `hours`: how long it is valid.
   * @returns {Promise<InviteCode>}
   */
  newInviteCode(groupId, { singleUse, hours } = {}) {
    const query = new URLSearchParams({ ...(singleUse && { single_use: 'true' }), ...(hours && { hours: String(hours) }) });
    return this.json('POST', `/api/groups/${id(groupId)}/invite-codes${query.size ? `?${query}` : ''}`, 'invite_code');
  }

  /** What the caller's devices share about a group; `encrypted_state` is null before the first. @param {string} groupId @returns {Promise<MemberState>} */
  memberState(groupId) {
    return this.get(`/api/groups/${id(groupId)}/state`, 'encrypted_state');
  }

  /** Replace it: base64 of at most 16 KiB, the last one stays. The caller's connections get `state_changed`. @param {string} groupId @param {string} state @returns {Promise<MemberState>} */
  putMemberState(groupId, state) {
    return this.json('PUT', `/api/groups/${id(groupId)}/state`, 'encrypted_state', { encrypted_state: state });
  }

  /** @param {string} groupId @returns {Promise<Quota>} */
  quota(groupId) {
    return this.get(`/api/groups/${id(groupId)}/quota`, 'max_bytes');
  }

  /** Who is connected, anywhere in the cluster. @param {string} groupId @returns {Promise<Online[]>} */
  presence(groupId) {
    return this.all(`/api/groups/${id(groupId)}/presence`, 'online', 'user_id');
  }

  // Annotations

  /**
   * Annotate a thread, or a reply or a stored medium in it: a reaction, an edit, as the clients agree.
   *
   * @param {string} threadId
   * @param {AnnotationBody} body
   * @param {PostOptions} [options]
   * @returns {Promise<AnnotationCreated>}
   */
  postAnnotation(threadId, body, options) {
    return this.once(`/api/threads/${id(threadId)}/annotations`, 'annotation_id', body, options);
  }

  /**
   * Iterate over a thread's annotations with a number above `afterSeq`, oldest first, a page at a time.
   *
   * @param {string} threadId
   * @param {number} [afterSeq]
   * @returns {AsyncGenerator<Annotation, void, undefined>}
   */
  async *eachAnnotation(threadId, afterSeq) {
    for (let after_seq = afterSeq; ; ) {
      const page = await this.get(`/api/threads/${id(threadId)}/annotations`, 'annotations', { after_seq });
      yield* page.annotations;
      after_seq = page.annotations.at(-1)?.seq;
      if (!page.has_more || !after_seq) return;
    }
  }

  // Deletion

  /**
   * Delete a message: its sender, and those who look after its group. A second time changes nothing.
   *
   * @param {string} messageId
   * @returns {Promise<void>}
   */
  async deleteMessage(messageId) {
    await this.json('DELETE', `/v1/messages/${id(messageId)}`);
  }

  /** Delete a thread with its replies, annotations and media: its author, or as `deleteMessage`. @param {string} threadId @returns {Promise<void>} */
  async deleteThread(threadId) {
    await this.json('DELETE', `/api/threads/${id(threadId)}`);
  }

  /** Delete a reply with its annotations: its author, or as `deleteMessage`. @param {string} replyId @returns {Promise<void>} */
  async deleteReply(replyId) {
    await this.json('DELETE', `/api/replies/${id(replyId)}`);
  }

  // Messages and events

  /** @param {MessageBody} body @param {PostOptions} [options] @returns {Promise<MessagePosted>} */
  postMessage(body, options) {
    return this.once('/v1/messages', 'message_id', body, options);
  }

  /**
   * Messages of all groups, or of one, oldest first.
   *
   * @param {{since?: number, limit?: number, conversation_id?: string}} [query] `since`: after this `server_timestamp`.
   * @returns {Promise<Messages>}
   */
  messages(query) {
    return this.get('/v1/messages', 'messages', query);
  }

  /**
   * The same, one after the other, read page by page.
   *
   * @param {{since?: number, limit?: number, conversation_id?: string}} [query]
   * @returns {AsyncGenerator<Message, void, undefined>}
   */
  async *eachMessage(query = {}) {
    for (let since = query.since; ; ) {
      const { messages, has_more } = await this.messages({ ...query, ...(since !== undefined && { since }) });
      yield* messages;
      const last = messages.at(-1);
      if (!has_more || !last) return;
      since = last.server_timestamp;
    }
  }

  /**
   * Events of a group, oldest first.
   *
   * @param {{group_id: string, after_seq?: number, limit?: number}} query
   * @returns {Promise<{events: OrbitalEvent[], last_seq: number, has_more: boolean}>}
   * @throws {OrbitalError} `GONE` with `details.oldest_seq` when some of them are no longer kept.
   */
  events(query) {
    return this.get('/v1/events', 'events', query);
  }

  /**
   * The same, one after the other, read page by page, up to the last one that is there.
   *
   * @param {{group_id: string, after_seq?: number, limit?: number}} query
   * @returns {AsyncGenerator<OrbitalEvent, void, undefined>}
   */
  async *eachEvent(query) {
    for (let after_seq = query.after_seq ?? 0; ; ) {
      const { events, has_more } = await this.events({ ...query, after_seq });
      yield* events;
      const last = events.at(-1);
      if (!has_more || !last) return;
      after_seq = last.seq;
    }
  }

  /**
   * A page of a group's events as the stored texts, byte for byte, so that they can be hashed.
   *
   * @param {{group_id: string, after_seq?: number, limit?: number}} query `limit`: 1,000 when left out.
   * @returns {Promise<TextPage>}
   * @throws {OrbitalError} `GONE` with `details.oldest_seq` when some of them are no longer kept.
   */
  eventPage({ group_id, after_seq = 0, limit = PAGE }) {
    return textPage(this, group_id, after_seq, limit);
  }

  /**
   * The texts alone.
   *
   * @param {string} groupId
   * @param {number} [afterSeq]
   * @param {number} [limit] 1,000 when left out.
   * @returns {Promise<string[]>}
   * @throws {OrbitalError} `GONE` with `details.oldest_seq` when some of them are no longer kept.
   */
  async eventTexts(groupId, afterSeq = 0, limit = PAGE) {
    return (await textPage(this, groupId, afterSeq, limit)).texts;
  }

  // Threads

  /** @param {ThreadBody} body @param {PostOptions} [options] @returns {Promise<ThreadPosted>} */
  createThread(body, options) {
    return this.once('/api/threads', 'thread_id', body, options);
  }

  /**
   * @param {string} groupId
   * @param {{limit?: number, offset?: number, sort?: 'created_desc' | 'created_asc' | 'active_desc'}} [query]
   * @returns {Promise<Threads>}
   */
  threads(groupId, query) {
    return this.get(`/api/groups/${id(groupId)}/threads`, 'threads', query);
  }

  /**
   * The same, one after the other, read page by page.
   *
   * @param {string} groupId
   * @param {{limit?: number, offset?: number, sort?: 'created_desc' | 'created_asc' | 'active_desc'}} [query]
   * @returns {AsyncGenerator<Thread, void, undefined>}
   */
  eachThread(groupId, query) {
    return this.each(`/api/groups/${id(groupId)}/threads`, 'threads', 'thread_id', query);
  }

  /** A thread with its first 100 media; `threadMedia` lists all. @param {string} threadId @returns {Promise<ThreadWithMedia>} */
  thread(threadId) {
    return this.get(`/api/threads/${id(threadId)}`, 'thread_id');
  }

  /**
   * @param {string} threadId
   * @param {{limit?: number, offset?: number}} [query]
   * @returns {Promise<Replies>}
   */
  replies(threadId, query) {
    return this.get(`/api/threads/${id(threadId)}/replies`, 'replies', query);
  }

  /**
   * The same, one after the other, read page by page.
   *
   * @param {string} threadId
   * @param {{limit?: number, offset?: number}} [query]
   * @returns {AsyncGenerator<Reply, void, undefined>}
   */
  eachReply(threadId, query) {
    return this.each(`/api/threads/${id(threadId)}/replies`, 'replies', 'reply_id', query);
  }

  /** @param {string} threadId @param {ReplyBody} body @param {PostOptions} [options] @returns {Promise<ReplyPosted>} */
  createReply(threadId, body, options) {
    return this.once(`/api/threads/${id(threadId)}/replies`, 'reply_id', body, options);
  }

  // Media: what moves bytes is in media.js

  /** What is known of a medium, also of one that has expired; `downloaded_by` lists who has it. @param {string} mediaId @returns {Promise<MediaInfo>} */
  media(mediaId) {
    return this.get(`/api/media/${id(mediaId)}/info`, 'media_id');
  }

  /** Report to the group that the caller has a medium; its `info` lists who has. @param {string} mediaId @returns {Promise<void>} */
  async mediaDownloaded(mediaId) {
    await this.json('POST', `/api/media/${id(mediaId)}/downloaded`);
  }

  /** Delete a medium before its time, or abort an upload. @param {string} mediaId @returns {Promise<void>} */
  async deleteMedia(mediaId) {
    await this.json('DELETE', `/api/media/${id(mediaId)}`);
  }

  /** @param {string} threadId @returns {Promise<Media[]>} */
  threadMedia(threadId) {
    return this.all(`/api/threads/${id(threadId)}/media`, 'media', 'media_id');
  }
}
