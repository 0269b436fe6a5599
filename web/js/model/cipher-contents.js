/** What a group of version 2 has, by the ids and numbers that the page knows it by. */

/** @import {Item} from '../../vendor/e2ee.js' */

/** @typedef {Pick<Item, 'status' | 'author' | 'parts' | 'via'> & {seq: number, data: Record<string, any>}} Known */

/** The id by which the page knows what an event carries. @param {Record<string, any>} data @returns {string} */
const idOf = ({ reply_id, media_id, thread_id }) => reply_id ?? media_id ?? thread_id ?? '';

/** What one group has. */
export class Contents {
  /** @type {Map<string, Known>} By the id of a thread, reply or medium. */
  byId = new Map();
  /** @type {Map<number, Known>} */
  bySeq = new Map();
  /** @type {Set<number>} Numbers of what may become readable. */
  waiting = new Set();
  /** Everything up to this number was looked at. */
  seen = 0;

  /** @param {Known} item @returns {boolean} Whether it is readable, and was not before. */
  put(item) {
    const id = idOf(item.data);
    const before = this.byId.get(id);
    // Another event with the id of an item that was read does not replace it.
    if (before?.status === 'read' && before.seq !== 0 && before.seq !== item.seq) return false;
    this.byId.set(id, item);
    this.bySeq.set(item.seq, item);
    if (item.status === 'waiting') this.waiting.add(item.seq);
    else this.waiting.delete(item.seq);
    return item.status === 'read' && before?.status !== 'read';
  }
}
