/** Read marks (read receipts, unread counts) of threads. Positions are sequence numbers, which only grow, also when the server deletes content. */

/** @import {Shelf} from './shelf.js' */

/** Threads whose position is kept; beyond it, the oldest read threads are evicted. */
const KEPT = 2000;

/**
 * @typedef {object} Mark
 * @property {number} last The thread's last event, by number.
 * @property {number} read The last one that was read, by number.
 * @property {number} fresh How many events of others came since then, as far as this device received them.
 */
/** @typedef {{groups: Record<string, number>, threads: Record<string, Mark>}} Marks `groups`: the server's time of the last event. */

/** @param {unknown} value @returns {value is Mark} */
const isMark = (value) => Number.isSafeInteger(/** @type {any} */ (value)?.last) && Number.isSafeInteger(/** @type {any} */ (value)?.read);

/** The read positions of one member on this device. */
export class ReadMarks {
  /** @type {Marks} */
  #marks = { groups: {}, threads: {} };
  #shelf;

  /** @param {Shelf} shelf */
  constructor(shelf) {
    this.#shelf = shelf;
    this.merge();
  }

  /** Merge the marks that another tab stored: a thread read in one tab is read in all. */
  merge() {
    const { groups = {}, threads = {} } = this.#shelf.read() ?? {};
    for (const [id, atMs] of Object.entries(groups)) {
      if (Number.isFinite(atMs)) this.#marks.groups[id] = Math.max(this.#marks.groups[id] ?? 0, /** @type {number} */ (atMs));
    }
    for (const [id, mark] of Object.entries(threads)) {
      if (!isMark(mark)) continue;
      const had = this.#marks.threads[id] ?? { last: 0, read: 0, fresh: 0 };
      const read = Math.max(had.read, mark.read);
      // The one that was read further knows how many came since.
      const fresh = mark.read > had.read ? mark.fresh : mark.read < had.read ? had.fresh : Math.max(had.fresh, mark.fresh ?? 0);
      this.#marks.threads[id] = { last: Math.max(had.last, mark.last), read, fresh: Number.isSafeInteger(fresh) ? fresh : 0 };
    }
  }

  /** @param {string} groupId @returns {number | undefined} The server's time of the group's last event here; undefined before the first. */
  latestAt(groupId) {
    return this.#marks.groups[groupId];
  }

  /** @param {string} groupId @param {number} atMs The server's time of an event. */
  received(groupId, atMs) {
    this.#marks.groups[groupId] = Math.max(this.#marks.groups[groupId] ?? 0, atMs);
    this.#keep();
  }

  /**
   * Record an event of a thread.
   *
   * @param {string} threadId
   * @param {number} seq The event's number.
   * @param {boolean} mine One's own event neither marks a thread as unread nor as read.
   */
  noted(threadId, seq, mine) {
    const mark = this.#marks.threads[threadId] ?? { last: 0, read: 0, fresh: 0 };
    this.#marks.threads[threadId] = mark;
    if (seq <= mark.last) return;
    if (mine && mark.read >= mark.last) mark.read = seq;
    mark.last = seq;
    if (!mine) mark.fresh++;
    this.#keep();
  }

  /** @param {string} threadId */
  unread(threadId) {
    const mark = this.#marks.threads[threadId];
    return mark !== undefined && mark.last > mark.read;
  }

  /** @param {string} threadId @returns {number} How many events of others are unread; at least 1 in an unread thread. */
  fresh(threadId) {
    return this.unread(threadId) ? Math.max(1, this.#marks.threads[threadId]?.fresh ?? 0) : 0;
  }

  /** @param {string} threadId @returns {boolean} Whether that changed anything. */
  markRead(threadId) {
    const mark = this.#marks.threads[threadId];
    if (!mark || mark.read >= mark.last) return false;
    mark.read = mark.last;
    mark.fresh = 0;
    this.#keep();
    return true;
  }

  #keep() {
    const { threads } = this.#marks;
    const ids = Object.keys(threads);
    if (ids.length > KEPT) {
      const read = ids.filter((id) => !this.unread(id)).sort((a, b) => (threads[a]?.last ?? 0) - (threads[b]?.last ?? 0));
      for (const id of read.slice(0, ids.length - KEPT)) delete threads[id];
    }
    this.#shelf.write(this.#marks);
  }
}
