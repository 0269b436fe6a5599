/** Members, presence, and the lines about joining and leaving. */

/** @import {RestMethods} from '/sdk/rest.js' */
/** @import {Shelf} from './shelf.js' */
/** @import {Group, Notice} from './types.js' */

/** Lines about members that are kept for each group. */
const NOTICES = 20;
/** Minimum interval between presence requests for an author who posts without a connection. */
const AUTHOR_MS = 60_000;

/**
 * @typedef {object} Surroundings
 * @property {RestMethods} api
 * @property {string} userId
 * @property {() => boolean} connected
 * @property {<T>(question: () => Promise<T>) => Promise<T>} ask
 * @property {() => void} changed
 */

/** The people of all groups. */
export class People {
  #around;
  #shelf;
  /** @type {Map<string, string>} Names by id, as the server gave them. */
  #names = new Map();
  /** @type {Map<string, number>} When an author of a group was last looked for. */
  #lookedFor = new Map();
  /** @type {Set<string>} Groups that are being asked for. */
  #asking = new Set();

  /** @param {Surroundings} around @param {Shelf} shelf Where the lines about members are kept. */
  constructor(around, shelf) {
    this.#around = around;
    this.#shelf = shelf;
  }

  /** @param {string | undefined} userId @param {string} [username] As it stands beside the id. @returns {string} */
  nameOf = (userId, username) => {
    if (userId && username) this.#names.set(userId, username);
    return username ?? this.#names.get(userId ?? '') ?? 'a former member';
  };

  /** Load members and presence; concurrent calls share one request. @param {Group} group */
  async load(group) {
    const { api, ask, connected, userId, changed } = this.#around;
    if (this.#asking.has(group.id)) return;
    this.#asking.add(group.id);
    try {
      const [members, online] = await Promise.all([ask(() => api.members(group.id)), api.presence(group.id)]);
      group.members = members.sort((a, b) => (a.joined_at < b.joined_at ? -1 : 1));
      for (const { user_id, username } of members) this.nameOf(user_id, username);
      group.memberCount = members.length;
      group.online = new Set([...(connected() ? [userId] : []), ...online.map(({ user_id }) => user_id)]);
      changed();
    } catch {
      // Presence is requested again periodically.
    } finally {
      this.#asking.delete(group.id);
    }
  }

  /** Request an author's presence, at most once a minute. @param {Group} group @param {string} author @param {number} nowMs */
  lookFor(group, author, nowMs) {
    const name = `${group.id}/${author}`;
    const before = this.#lookedFor.get(name);
    if (before !== undefined && Math.abs(nowMs - before) < AUTHOR_MS) return;
    this.#lookedFor.set(name, nowMs);
    void this.load(group);
  }

  /** @param {Group} group @returns {Notice[]} What was noted in earlier runs. */
  notices(group) {
    const stored = this.#shelf.read()?.[group.id];
    return Array.isArray(stored) ? stored.filter((one) => Number.isFinite(one?.atMs) && typeof one.username === 'string') : [];
  }

  /**
   * Note that a member joined or left.
   *
   * @param {Group} group
   * @param {Notice['kind']} kind
   * @param {{user_id: string, username: string}} who
   * @param {{seq: number, server_timestamp: number}} event
   */
  moved(group, kind, { user_id, username }, { seq, server_timestamp }) {
    this.nameOf(user_id, username);
    if (kind !== 'joined') {
      group.members = group.members.filter((member) => member.user_id !== user_id);
      group.online.delete(user_id);
    }
    if (group.notices.some((one) => one.seq === seq)) return;
    group.notices = [...group.notices, { kind, username, atMs: server_timestamp, seq }].slice(-NOTICES);
    this.#shelf.write({ ...this.#shelf.read(), [group.id]: group.notices });
  }
}
