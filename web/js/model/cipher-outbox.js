/** What a member writes in groups of version 2, from the draft to the server's answer. */

/** @import {NewPart} from '../../vendor/e2ee.js' */
/** @import {Device} from './cipher-device.js' */

/** @typedef {{id: string, groupId: string, type: string, plain: Record<string, any>, texts: string[], atMs: number, posted: boolean, refused: string | undefined}} Draft */
/** @typedef {{running: Promise<void>, next: Promise<void> | undefined}} Flush */

/** @param {any} error @returns {boolean} Whether the server itself refused a draft: what a proxy answers, or an ended session, is no refusal. */
const isRefusal = ({ code, retryable, status }) =>
  code === 'not_found' || (status >= 400 && !retryable && code !== 'UNAUTHORIZED' && !/^HTTP_/.test(code));

/**
 * Report the error of what nobody waits for.
 *
 * @param {any} error An upload ends with an `AbortError` when a person stops it, or when its event comes before its answer; that is not reported.
 */
export function report(error) {
  if (error.name !== 'AbortError') console.warn('orbital:', error.message);
}

/** The drafts of this browser. The device's store keeps them; this knows what to show of them. */
export class CipherOutbox {
  #open;
  #hooks;
  /** @type {Map<string, Draft[]>} By group. */
  #drafts = new Map();
  /** @type {Set<string>} Keys of what the server accepted: the store may have been read just before, and still have it as a draft. */
  #accepted = new Set();
  /** @type {Map<string, any>} Why the server refused a draft, by its key. */
  #refusals = new Map();
  /** @type {Map<string, Flush>} By group, while one runs. */
  #flushes = new Map();
  #decoder = new TextDecoder();

  /** @param {() => Promise<Device>} open @param {{drafts: (groupId: string, drafts: Draft[]) => void}} hooks */
  constructor(open, hooks) {
    this.#open = open;
    this.#hooks = hooks;
  }

  async #member() {
    return (await this.#open()).member;
  }

  /** @param {string} groupId @returns {boolean} Whether something is not sent, or did not come back as an event yet. */
  has(groupId) {
    return Boolean(this.#drafts.get(groupId)?.length);
  }

  /** @param {string} groupId @param {string} type @param {NewPart[]} parts @param {Record<string, unknown>} [plain] @returns {Promise<string>} Its key. */
  async draft(groupId, type, parts, plain = {}) {
    const key = await (await this.#member()).draft(groupId, type, parts, plain);
    await this.refresh(groupId);
    void this.flush(groupId);
    return key;
  }

  /** Read again what is not sent yet. @param {string} groupId */
  async refresh(groupId) {
    const rows = await (await this.#member()).drafts(groupId);
    const drafts = rows.map(({ id, type, plain, parts, at, posted, refused }) => ({
      ...{ id, groupId, type, plain, atMs: at, refused },
      texts: parts.map(({ body }) => this.#decoder.decode(body)),
      posted: posted !== undefined || this.#accepted.has(id),
    }));
    this.#drafts.set(groupId, drafts);
    this.#hooks.drafts(groupId, drafts);
  }

  /** Send a text again that the server refused. @param {string} groupId @param {string} key */
  async sendAgain(groupId, key) {
    await (await this.#member()).sendAgain(groupId, key);
    await this.refresh(groupId);
    void this.flush(groupId);
  }

  /** @param {string} groupId @param {string} key */
  async discard(groupId, key) {
    await (await this.#member()).discard(groupId, key);
    await this.refresh(groupId);
  }

  /** The server accepted a post. @param {string} groupId @param {string} key @returns {Draft | undefined} The draft, if it is one that is known. */
  sent(groupId, key) {
    this.#accepted.add(key);
    const draft = this.#drafts.get(groupId)?.find(({ id }) => id === key);
    if (draft) draft.posted = true;
    return draft;
  }

  /** The server did not accept a post. @param {string} key @param {any} error */
  failed(key, error) {
    if (isRefusal(error)) this.#refusals.set(key, error);
  }

  /** Send what waits in a group. It never rejects: what was not sent is tried again. @param {string} groupId @returns {Promise<void>} */
  flush(groupId) {
    const present = this.#flushes.get(groupId);
    if (!present) return this.#begin(groupId);
    // One that runs may have looked for drafts already, so one more follows it: one, however often it is asked for.
    present.next ??= present.running.then(() => this.#begin(groupId));
    return present.next;
  }

  /** @param {string} groupId @returns {Promise<void>} */
  #begin(groupId) {
    const ended = () => {
      if (!flush.next) this.#flushes.delete(groupId);
    };
    const running = this.#flush(groupId).catch(report).then(ended);
    /** @type {Flush} */
    const flush = { running, next: undefined };
    this.#flushes.set(groupId, flush);
    return running;
  }

  /** @param {string} groupId */
  async #flush(groupId) {
    const { member, library } = await this.#open();
    for (;;) {
      try {
        return await member.flush(groupId);
      } catch (error) {
        const refused = (await member.drafts(groupId)).find(({ id }) => this.#refusals.has(id));
        if (!refused && library.isLeftForLater(error)) return;
        if (!refused) throw error;
        const { message } = this.#refusals.get(refused.id);
        this.#refusals.delete(refused.id);
        await member.setAside(groupId, refused.id, message);
        await this.refresh(groupId);
      }
    }
  }
}
