/** The versions of the encryption: the first byte of an envelope says which one opens it. */
import { open, seal } from '../crypto/envelope.js';
import { fromBase64, toBase64 } from '../crypto/bytes.js';
import { readMediaInfo } from './medium.js';

/** @import {Cipher, Hooks} from './cipher.js' */
/** @import {Surroundings} from './cipher-device.js' */
/** @import {OrbitalClient} from '/sdk/client.js' */
/** @import {Family} from './family.js' */
/** @import {GroupKeys} from './group-keys.js' */
/** @import {Group, MediaInfo} from './types.js' */

/** @typedef {{raw: import('../crypto/bytes.js').Bytes, seq: number}} Move `raw`: the invitation of version 2. `seq`: of the record. */
/** What carries an envelope: the id of a thread, reply or medium, or the number of its event; `author` as the server names it. */
/** @typedef {{which: string | number, author: string | undefined}} Carrier */

/** @param {string} sealed @returns {boolean} Whether it is an envelope of version 2: base64 whose first byte is 2. */
const isSecond = (sealed) => /^A[g-v]/.test(sealed);

/**
 * @param {Family} family Its parts are made before the first group is loaded.
 * @param {OrbitalClient} client
 * @returns {Versions}
 */
export function versionsOf(family, client) {
  const around = {
    client,
    userId: family.session.user_id,
    files: { get: (/** @type {string} */ id) => family.uploads.sealedOf(id), set: async () => {}, delete: async () => {} },
    progress: (/** @type {string} */ id, /** @type {{loaded: number, total: number}} */ done) => family.uploads.progressed(id, done),
    signal: (/** @type {string} */ id) => family.uploads.signalOf(id),
  };
  return new Versions(family, around, {
    read: (id, item) => {
      const group = family.groups.get(id);
      if (group) void family.threads.reread(group, item);
    },
    drafts: (id, drafts) => family.outbox.show(id, drafts),
    sent: (key, answer, body) => void family.sent(key, answer, body),
    changed: () => family.changed(),
  });
}

/** Opens what members wrote. Groups of version 2 load their part of the page when the first one is met. */
export class Versions {
  /** @type {Cipher | undefined} */
  cipher;
  #own;
  #around;
  #hooks;
  /** @type {Promise<Cipher> | undefined} */
  #loading;

  /**
   * @param {{keys: Pick<GroupKeys, 'raw' | 'moved'>, entering: <T>(act: () => Promise<T>) => Promise<T>}} own
   * @param {Omit<Surroundings, 'sent' | 'failed'>} around
   * @param {Hooks} hooks
   */
  constructor(own, around, hooks) {
    this.#own = own;
    this.#around = around;
    this.#hooks = hooks;
  }

  /** @returns {Promise<Cipher>} */
  load() {
    this.#loading ??= import('./cipher.js').then(
      ({ Cipher }) => {
        this.cipher = new Cipher(this.#around, this.#hooks);
        return this.cipher;
      },
      (error) => {
        this.#loading = undefined;
        throw error;
      },
    );
    return this.#loading;
  }

  /**
   * Begin with a group: load what this browser has read, and take in the log up to a number. Nothing, in version 1.
   *
   * One that cannot be begun is tried again with the next list of groups.
   *
   * @param {Group} group
   * @param {number} seq
   */
  async begin(group, seq) {
    if (group.version !== 2 || group.begun) return;
    try {
      await this.#begin(group, seq);
    } catch (error) {
      const { retryable, message } = /** @type {any} */ (error);
      if (!retryable) console.warn('orbital:', message);
    }
  }

  /** @param {Group} group @param {number} seq */
  async #begin(group, seq) {
    const { id, wrapped, moved } = group;
    const cipher = await this.load();
    if (!(await cipher.knows(id))) {
      const move = moved ? await this.findMove(group) : undefined;
      const raw = moved ? null : await this.#own.keys.raw(wrapped);
      // Another tab is joining it, or this browser deleted its device and not the keys.
      if (move) await this.#own.entering(() => cipher.follow(id, move));
      else if (raw) await this.#own.entering(() => cipher.join(id, raw));
    }
    if (!(await cipher.knows(id))) return;
    await cipher.start(id, seq);
    group.begun = true;
    void cipher.flush(id);
  }

  /**
   * Find the record by which a group moved from version 1 to version 2: the first one that its key opens.
   *
   * @param {Pick<Group, 'id' | 'key'>} group
   * @returns {Promise<Move | undefined>}
   */
  async findMove(group) {
    for await (const { record, seq } of this.#around.client.api.eachRecord(group.id)) {
      const move = await this.#readMove(group, record, seq);
      if (move) return move;
    }
    return undefined;
  }

  /** @param {Pick<Group, 'id' | 'key'>} group @param {string} record @param {number} seq @returns {Promise<Move | undefined>} */
  async #readMove({ id, key }, record, seq) {
    const raw = await open(key, id, 'move', record);
    return raw === null ? undefined : { raw: fromBase64(raw), seq };
  }

  /**
   * Note that a group has moved, if its records or an event of it say so.
   *
   * @param {Group} group Of version 1.
   * @param {import('/sdk/wire.js').OrbitalEvent} [event] Left out, the server is asked for its records.
   * @returns {Promise<boolean>} Whether it has: it begins as one of version 2 then.
   */
  async hasMoved(group, event) {
    const { id, key, version } = group;
    if (version === 2 || !key || (event && event.type !== 'new_record')) return false;
    const move = event ? await this.#readMove(group, String(event.data.record), event.seq) : await this.findMove(group);
    group.asked = true;
    if (!move) return false;
    await this.#own.keys.moved(id, key);
    Object.assign(group, { version: 2, moved: true });
    return true;
  }

  /** Move a group of version 1 to version 2. Of two members who do it at once, the first in the log does. @param {Group} group */
  async move({ id, key }) {
    const raw = await (await this.load()).newInvitation();
    const record = await seal(/** @type {CryptoKey} */ (key), id, 'move', toBase64(raw));
    await this.#around.client.api.postRecord(id, { record }, { key: crypto.randomUUID() });
  }

  /** An event is about to be applied. @param {Group} group @param {import('/sdk/wire.js').OrbitalEvent} event */
  async receive({ begun }, event) {
    if (begun) await (await this.load()).receive(event);
  }

  /** The log no longer has what comes before a number. @param {Group} group @param {number} seq */
  async reset({ id, begun }, seq) {
    if (begun) await (await this.load()).reset(id, seq);
  }

  /** @param {Group} group */
  async caughtUp({ id, begun }) {
    if (begun) await (await this.load()).caughtUp(id);
  }

  /** @param {Group} group @returns {import('./cipher-roster.js').Place | undefined} What this browser is in a group of version 2. */
  placeIn({ id }) {
    return this.cipher?.roster.place(id);
  }

  /** @param {Group} group @returns {Promise<import('../crypto/bytes.js').Bytes | null>} What an invite link of a group of version 2 carries; null where it is the group's key. */
  async invitation({ id, begun, moved }) {
    return begun && !moved ? (await this.load()).invitation(id) : null;
  }

  /** @param {string} groupId @param {string} key Of a text that the server refused. */
  async sendAgain(groupId, key) {
    await (await this.load()).outbox.sendAgain(groupId, key);
  }

  /** @param {string} groupId @param {string} key Of a text that is not sent. */
  async discard(groupId, key) {
    await (await this.load()).outbox.discard(groupId, key);
  }

  /**
   * Open a text.
   *
   * @param {Pick<Group, 'id' | 'key' | 'version' | 'moved'>} group
   * @param {string} kind
   * @param {string} sealed
   * @param {Carrier} carrier
   * @returns {Promise<string | null> | string | null} Null when it cannot be read here, or not yet.
   */
  open({ id, key, version, moved }, kind, sealed, { which, author = '' }) {
    if (isSecond(sealed)) return this.cipher?.text(id, which, author, kind === 'thread-body' ? 1 : 0) ?? null;
    // The key of such a group opens its name alone: anybody with an invite link has it. One that moved has a past of version 1.
    return version === 2 && !moved ? null : open(key, id, kind, sealed);
  }

  /**
   * @param {Group} group
   * @param {string} sealed
   * @param {Carrier & {which: string}} carrier
   * @returns {Promise<MediaInfo | null>}
   */
  async mediaInfo(group, sealed, { which, author = '' }) {
    if (isSecond(sealed)) return this.readInfo(group, which, author);
    return readMediaInfo(await this.open(group, `media-info/${which}`, sealed, { which, author }));
  }

  /** @param {Group} group @param {string} mediaId @param {string} author @returns {MediaInfo | null} */
  readInfo(group, mediaId, author) {
    return readMediaInfo(JSON.stringify(this.cipher?.mediaInfo(group.id, mediaId, author) ?? null));
  }

  /** @param {Group} group @param {string} id @returns {boolean} Whether it may become readable: its key or its event is not here yet. */
  waits({ id: groupId, version }, id) {
    return version === 2 && ['waiting', undefined].includes(this.cipher?.statusOf(groupId, id));
  }

  /** @param {Group} group @param {string} mediaId @returns {boolean} Whether a file has a key of its own. */
  hasOwnKey({ id, version, moved }, mediaId) {
    return version === 2 && (!moved || this.cipher?.statusOf(id, mediaId) !== undefined);
  }

  /**
   * Encrypt a file of a group of version 2 under a key of its own.
   *
   * @param {Group} group
   * @param {string} mediaId
   * @param {File} file
   * @returns {Promise<{sealed: Blob, iv: string, metadata: string}>} `metadata`: its key, sealed for this browser's storage.
   */
  async sealFile(group, mediaId, file) {
    const { sealed, info } = await (await this.load()).sealFile(mediaId, file);
    const metadata = await seal(/** @type {CryptoKey} */ (group.key), group.id, `upload/${mediaId}`, toBase64(info));
    return { sealed, iv: '', metadata };
  }

  /**
   * Send a file that `sealFile` encrypted.
   *
   * @param {Group} group
   * @param {{id: string, threadId: string, metadata: string}} upload
   */
  async upload(group, { id, threadId, metadata }) {
    const info = await open(group.key, group.id, `upload/${id}`, metadata);
    if (info === null) throw new Error('The file can no longer be read. Discard it, and choose it again.');
    await (await this.load()).upload(group.id, threadId, id, fromBase64(info));
  }
}
