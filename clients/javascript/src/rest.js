/** The REST side: one method for each path of the protocol. Loaded when first used. */
import { PAGE, eventTexts } from './fill.js';
import { Http } from './http.js';

/** @import {OrbitalEvent} from './wire.js' */

/** @typedef {{key?: string, signal?: AbortSignal}} PostOptions `key`: the `Idempotency-Key` (1–128 visible ASCII): the same request under the same key counts once. */
/** @typedef {{thread_id: string, group_id: string, author_id: string, author_username: string, encrypted_title: string, encrypted_body: string, reply_count: number, media_count: number, created_at: string}} Thread */
/** @typedef {{reply_id: string, thread_id: string, author_id: string, author_username: string, encrypted_body: string, media_count: number, created_at: string}} Reply */
/** @typedef {{media_id: string, encrypted_metadata: string, size_bytes: number, uploaded_at: string, expires_at: string}} Media */
/** @typedef {Media & {thread_id: string, group_id: string, author_id: string, author_username: string, encryption_iv: string, status: 'complete' | 'expired', downloaded_by: {user_id: string, username: string, downloaded_at: string}[]}} MediaInfo */
/** @typedef {{message_id: string, conversation_id: string, encrypted_envelope: string, server_timestamp: number, sender_id?: string, seq?: number}} Message */
/** @typedef {{group_id: string, encrypted_name: string, encrypted_group_key: string, member_count: number, invite_code: string, joined_at: string, last_seq?: number}} Group */
/** @typedef {{user_id: string, username: string, public_key: object, joined_at: string}} Member */
/** @typedef {{group_id: string, total_bytes: number, max_bytes: number, media_count: number, max_media_count: number, usage_percent: number, warning_threshold: number, is_warning: boolean, is_full: boolean}} Quota */
/** @typedef {{message_id: string, server_timestamp: number, seq?: number}} MessagePosted */
/** @typedef {{thread_id: string, group_id: string, created_at: string, seq?: number}} ThreadPosted */
/** @typedef {{reply_id: string, thread_id: string, created_at: string, seq?: number}} ReplyPosted */
/** @typedef {{conversation_id: string, encrypted_envelope: string, timestamp: number}} MessageBody */
/** @typedef {{group_id: string, encrypted_title: string, encrypted_body: string, root_message_id?: string}} ThreadBody */
/** @typedef {{encrypted_body: string, message_id?: string}} ReplyBody */

/** @typedef {Omit<OrbitalApi, 'url' | 'credentials'>} RestMethods What `client.api` has. */

const id = encodeURIComponent;

/** The server's REST side. Every method gives the answer's body, or throws an OrbitalError with the server's code. */
export class OrbitalApi extends Http {
  /**
   * Make a request with a JSON body, and give the answer's body.
   *
   * @param {string} method
   * @param {string} path
   * @param {unknown} [body]
   * @param {PostOptions} [options]
   * @returns {Promise<any>} Undefined when there is none.
   */
  #json(method, path, body, { key, signal } = {}) {
    const headers = { ...(body ? { 'Content-Type': 'application/json' } : {}), ...(key ? { 'Idempotency-Key': key } : {}) };
    return this.request(method, path, { headers, signal, ...(body ? { body: JSON.stringify(body) } : {}) }, async (response) => {
      const text = await response.text();
      return text ? JSON.parse(text) : undefined;
    });
  }

  /**
   * @param {string} path
   * @param {unknown} [body]
   * @param {PostOptions} [options]
   */
  #post(path, body, options) {
    return this.#json('POST', path, body, options);
  }

  /**
   * @param {string} path
   * @param {Record<string, string | number | undefined>} [query]
   */
  #get(path, query = {}) {
    const search = new URLSearchParams();
    for (const [name, value] of Object.entries(query)) if (value !== undefined) search.set(name, String(value));
    return this.#json('GET', path + (`${search}` && `?${search}`));
  }

  /**
   * Read a list to its end: a page ends early when its entries are large.
   *
   * @param {string} path
   * @param {string} name where the entries stand in the answer
   * @returns {Promise<any[]>}
   */
  async #all(path, name) {
    const all = [];
    for (;;) {
      const page = await this.#get(path, all.length ? { offset: all.length } : {});
      all.push(...page[name]);
      if (!page.has_more || !page[name].length) return all;
    }
  }

  // Accounts

  /**
   * Open an account; the token is used from here on.
   *
   * @param {{username: string, password: string, public_key: object}} body
   * @returns {Promise<{user_id: string, username: string, token: string}>}
   */
  async signup(body) {
    return this.#enter('/api/signup', body);
  }

  /**
   * Log in; the token is used from here on.
   *
   * @param {{username: string, password: string}} body
   * @returns {Promise<{user_id: string, username: string, public_key: object, token: string}>}
   */
  async login(body) {
    return this.#enter('/api/login', body);
  }

  /** @param {string} path @param {object} body */
  async #enter(path, body) {
    const answer = await this.#post(path, body);
    this.credentials.set(answer.token);
    return answer;
  }

  /** Revoke the token: it opens nothing any more, and its connections are closed. @returns {Promise<void>} */
  async logout() {
    await this.#post('/api/logout');
  }

  // Groups

  /** @returns {Promise<Group[]>} */
  groups() {
    return this.#all('/api/groups', 'groups');
  }

  /**
   * @param {{encrypted_name: string, encrypted_group_key: string}} body
   * @param {PostOptions} [options]
   * @returns {Promise<{group_id: string, invite_code: string, created_at: string}>}
   */
  createGroup(body, options) {
    return this.#post('/api/groups', body, options);
  }

  /**
   * @param {{invite_code: string, encrypted_group_key: string}} body
   * @param {PostOptions} [options]
   * @returns {Promise<{group_id: string, encrypted_name: string, member_count: number, joined_at: string}>}
   */
  joinGroup(body, options) {
    return this.#post('/api/groups/join', body, options);
  }

  /** @param {string} groupId @returns {Promise<Member[]>} */
  members(groupId) {
    return this.#all(`/api/groups/${id(groupId)}/members`, 'members');
  }

  /**
   * Remove a member (the creator), or leave (the member itself).
   *
   * @param {string} groupId
   * @param {string} userId
   * @returns {Promise<void>}
   */
  async removeMember(groupId, userId) {
    await this.#json('DELETE', `/api/groups/${id(groupId)}/members/${id(userId)}`);
  }

  /** Replace the invite code (the creator only). @param {string} groupId @returns {Promise<{invite_code: string, expires_at: string}>} */
  newInviteCode(groupId) {
    return this.#post(`/api/groups/${id(groupId)}/invite-codes`);
  }

  /** @param {string} groupId @returns {Promise<Quota>} */
  quota(groupId) {
    return this.#get(`/api/groups/${id(groupId)}/quota`);
  }

  /** Who is connected, anywhere in the cluster. @param {string} groupId @returns {Promise<{user_id: string, username: string, connections: number, since: string}[]>} */
  presence(groupId) {
    return this.#all(`/api/groups/${id(groupId)}/presence`, 'online');
  }

  // Messages and events

  /** @param {MessageBody} body @param {PostOptions} [options] @returns {Promise<MessagePosted>} */
  postMessage(body, options) {
    return this.#post('/v1/messages', body, options);
  }

  /**
   * Messages of all groups, or of one, oldest first.
   *
   * @param {{since?: number, limit?: number, conversation_id?: string}} [query] `since`: after this `server_timestamp`.
   * @returns {Promise<{messages: Message[], has_more: boolean}>}
   */
  messages(query) {
    return this.#get('/v1/messages', query);
  }

  /**
   * Events of a group, oldest first.
   *
   * @param {{group_id: string, after_seq?: number, limit?: number}} query
   * @returns {Promise<{events: OrbitalEvent[], last_seq: number, has_more: boolean}>}
   * @throws {OrbitalError} `GONE` with `details.oldest_seq` when some of them are no longer kept.
   */
  events(query) {
    return this.#get('/v1/events', query);
  }

  /**
   * Events of a group as the stored texts, to the letter, so that they can be hashed.
   *
   * @param {string} groupId
   * @param {number} [afterSeq]
   * @param {number} [limit] 1,000 when left out.
   * @returns {Promise<string[]>}
   * @throws {OrbitalError} `GONE` with `details.oldest_seq` when some of them are no longer kept.
   */
  eventTexts(groupId, afterSeq = 0, limit = PAGE) {
    return eventTexts(this, groupId, afterSeq, limit);
  }

  // Threads

  /** @param {ThreadBody} body @param {PostOptions} [options] @returns {Promise<ThreadPosted>} */
  createThread(body, options) {
    return this.#post('/api/threads', body, options);
  }

  /**
   * @param {string} groupId
   * @param {{limit?: number, offset?: number, sort?: 'created_desc' | 'created_asc'}} [query]
   * @returns {Promise<{threads: Thread[], total_count: number, has_more: boolean}>}
   */
  threads(groupId, query) {
    return this.#get(`/api/groups/${id(groupId)}/threads`, query);
  }

  /** A thread with its first 100 media; `threadMedia` lists all. @param {string} threadId @returns {Promise<Thread & {media: Media[], media_has_more: boolean}>} */
  thread(threadId) {
    return this.#get(`/api/threads/${id(threadId)}`);
  }

  /**
   * @param {string} threadId
   * @param {{limit?: number, offset?: number}} [query]
   * @returns {Promise<{replies: Reply[], total_count: number, has_more: boolean}>}
   */
  replies(threadId, query) {
    return this.#get(`/api/threads/${id(threadId)}/replies`, query);
  }

  /** @param {string} threadId @param {ReplyBody} body @param {PostOptions} [options] @returns {Promise<ReplyPosted>} */
  createReply(threadId, body, options) {
    return this.#post(`/api/threads/${id(threadId)}/replies`, body, options);
  }

  // Media: what moves bytes is in media.js

  /** What is known of a medium, also of one that has expired; `downloaded_by` tells who has it. @param {string} mediaId @returns {Promise<MediaInfo>} */
  media(mediaId) {
    return this.#get(`/api/media/${id(mediaId)}/info`);
  }

  /** Tell the group that the caller has a medium; its `info` lists who has. @param {string} mediaId @returns {Promise<void>} */
  async mediaDownloaded(mediaId) {
    await this.#json('POST', `/api/media/${id(mediaId)}/downloaded`);
  }

  /** Take a medium away before its time, or give an upload up. @param {string} mediaId @returns {Promise<void>} */
  async deleteMedia(mediaId) {
    await this.#json('DELETE', `/api/media/${id(mediaId)}`);
  }

  /** @param {string} threadId @returns {Promise<Media[]>} */
  threadMedia(threadId) {
    return this.#all(`/api/threads/${id(threadId)}/media`, 'media');
  }
}

