/** Uploads of photos and videos. They are encrypted first, stored encrypted, and wait for the server as texts do. */
import { seal } from '../crypto/envelope.js';
import { sealFile } from '../crypto/files.js';

/** @import {OrbitalClient} from '/sdk/client.js' */
/** @import {Group, Session} from './types.js' */
/** @import {Table} from './vault.js' */
/** @import {Versions} from './versions.js' */

/** Delay before an upload that found no server is retried; a new connection retries it at once. */
const RETRY_MS = 30_000;

/**
 * - `sealing`: it is being encrypted. `sending`: it is being sent. `waiting`: the server cannot be reached; it is retried automatically.
 * - `paused`: the member paused it. `failed`: the server refused it.
 *
 * @typedef {object} Upload
 * @property {string} id The medium's.
 * @property {string} groupId
 * @property {string} threadId
 * @property {string} name
 * @property {'sealing' | 'waiting' | 'sending' | 'paused' | 'failed'} state
 * @property {number} done From 0 to 1.
 * @property {string | undefined} [error]
 * @property {Blob} [sealed]
 * @property {string} iv
 * @property {string} metadata Sealed.
 */

/**
 * @typedef {object} Surroundings
 * @property {Pick<OrbitalClient, 'uploadMedia'>} client
 * @property {Session} session
 * @property {Pick<Table, 'all' | 'get' | 'set' | 'delete'>} table
 * @property {(groupId: string) => Promise<{max_bytes: number, total_bytes: number}>} quota
 * @property {(name: string, act: () => Promise<void>) => Promise<boolean>} exclusive Run in one tab at a time; false when another tab runs it.
 * @property {Map<string, Group>} groups
 * @property {Versions} versions
 * @property {() => void} changed
 */

/** @param {Blob} file @returns {Promise<{width?: number, height?: number}>} Lets the layout reserve space before the picture is loaded. */
async function measure(file) {
  if (!file.type.startsWith('image/')) return {};
  try {
    const { width, height } = await createImageBitmap(file);
    return { width, height };
  } catch {
    return {};
  }
}

/** @param {any} error @returns {boolean} Whether the same upload may succeed later: only an answer of the server's own is a refusal. */
const isTemporary = ({ code, retryable }) => Boolean(retryable) || code === 'UNAUTHORIZED' || /^HTTP_/.test(code);

/** @param {any} error @returns {string} */
const reasonOf = ({ name, message }) =>
  name === 'NotReadableError' || name === 'NotFoundError' ? 'The file can no longer be read. Discard it, and choose it again.' : message;

/** The uploads of one member. Files on the disk are encrypted. */
export class Uploads {
  /** @type {Map<string, Upload>} */
  all = new Map();
  /** @type {Map<string, AbortController>} */
  #running = new Map();
  /** @type {Map<string, {group: Group, file: File}>} Files that are not encrypted yet. */
  #files = new Map();
  /** Ends when everything that was chosen so far was sent once: photos that are chosen together arrive in their order. */
  #turn = Promise.resolve();
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  #around;

  /** @param {Surroundings} around */
  constructor(around) {
    this.#around = around;
  }

  get #prefix() {
    return `${this.#around.session.user_id}/`;
  }

  /** The number of texts or photos that are not sent yet. */
  get toSend() {
    return [...this.all.values()].filter(({ state }) => state === 'sealing' || state === 'waiting' || state === 'sending').length;
  }

  /** Resume the uploads of an earlier run; paused uploads stay paused. */
  async restore() {
    for (const kept of await this.#around.table.all(this.#prefix)) {
      if (this.all.has(kept.id)) continue;
      this.all.set(kept.id, { ...kept, state: kept.state === 'paused' || kept.state === 'failed' ? kept.state : 'waiting' });
    }
    if (!this.all.size) return;
    this.#around.changed();
    this.wake();
  }

  /** Retry the waiting uploads now. */
  wake() {
    for (const upload of this.all.values()) if (upload.state === 'waiting') void this.#inTurn(upload, Promise.resolve());
  }

  /** Send an upload after those that were chosen before it. @param {Upload} upload @param {Promise<void>} sealed Ends when it may be sent, or never will be. */
  #inTurn(upload, sealed) {
    const before = this.#turn;
    this.#turn = (async () => {
      await before;
      await sealed;
      // A browser that refuses the lock must not hold up those that follow.
      if (upload.state === 'waiting' && this.all.has(upload.id)) await this.send(upload).catch(() => this.#wait(upload));
    })();
    return this.#turn;
  }

  stop() {
    clearTimeout(this.#timer);
    // This abort is not a pause by the member: the next run resumes the upload.
    for (const [id, running] of this.#running) {
      const upload = this.all.get(id);
      if (upload) upload.state = 'waiting';
      running.abort();
    }
  }

  /** @param {Group} group @param {string} threadId @param {File} file */
  async add(group, threadId, file) {
    const id = crypto.randomUUID();
    const upload = /** @type {Upload} */ ({
      id,
      groupId: group.id,
      threadId,
      name: file.name,
      state: 'sealing',
      done: 0,
      iv: '',
      metadata: '',
    });
    this.all.set(id, upload);
    this.#files.set(id, { group, file });
    await this.#inTurn(upload, this.#seal(upload, group, file));
  }

  /** Resume or retry an upload. @param {Upload} upload */
  async resume(upload) {
    const unsealed = this.#files.get(upload.id);
    Object.assign(upload, { state: unsealed ? 'sealing' : 'waiting', error: undefined });
    await this.#inTurn(upload, unsealed ? this.#seal(upload, unsealed.group, unsealed.file) : Promise.resolve());
  }

  /** @param {Upload} upload @param {Group} group @param {File} file */
  async #seal(upload, group, file) {
    const key = /** @type {CryptoKey} */ (group.key);
    const running = new AbortController();
    this.#running.set(upload.id, running);
    this.#around.changed();
    let refused = '';
    // Beside the encryption, not before it: until the file is stored, a reload loses it.
    this.#around.quota(group.id).then(
      ({ max_bytes, total_bytes }) => {
        const left = Math.max(0, max_bytes - total_bytes);
        if (file.size <= left) return;
        refused = `The group has room for ${Math.floor(left / 1e6)} MB more, and this file has ${Math.ceil(file.size / 1e6)} MB.`;
        running.abort();
      },
      () => {
        // Without an answer the server itself decides, when the upload starts.
      },
    );
    try {
      if (group.version === 2) Object.assign(upload, await this.#around.versions.sealFile(group, upload.id, file));
      else {
        const info = { name: file.name, type: file.type, ...(await measure(file)) };
        upload.metadata = await seal(key, group.id, `media-info/${upload.id}`, JSON.stringify(info));
        Object.assign(upload, await sealFile(key, group.id, upload.id, file, running.signal));
      }
      running.signal.throwIfAborted();
    } catch (error) {
      this.#running.delete(upload.id);
      if (running.signal.aborted && !refused) this.#set(upload, 'paused');
      else this.#set(upload, 'failed', refused || reasonOf(error));
      return;
    }
    this.#files.delete(upload.id);
    upload.state = 'waiting';
    await this.#keep(upload);
  }

  /** Send the parts that the server does not have yet. @param {Upload} upload */
  async send(upload) {
    const { id } = upload;
    if (!upload.sealed || upload.state === 'sending') return;
    upload.state = 'sending';
    this.#around.changed();
    const mine = await this.#around.exclusive(`orbital-upload:${id}`, () => this.#transfer(upload));
    // Another tab sends it: the event reports its arrival, and if that tab ends first, this one continues.
    if (!mine) this.#wait(upload);
  }

  /** @param {Upload} upload */
  async #transfer(upload) {
    const { id, threadId, sealed, metadata, iv } = upload;
    // Pieces of version 1 alone name the first nonce.
    const send = iv === '' ? () => this.#second(upload) : this.#around.client.uploadMedia.bind(this.#around.client);
    const running = new AbortController();
    this.#running.set(id, running);
    try {
      await send({
        media_id: id,
        thread_id: threadId,
        data: /** @type {Blob} */ (sealed),
        encrypted_metadata: metadata,
        encryption_iv: iv,
        signal: running.signal,
        onProgress: (progress) => this.progressed(id, progress),
      });
      this.arrived(id);
    } catch (error) {
      if (running.signal.aborted) this.#set(upload, upload.state === 'waiting' ? 'waiting' : 'paused');
      else if (isTemporary(error)) this.#wait(upload);
      else this.#set(upload, 'failed', /** @type {Error} */ (error).message);
    }
    this.#running.delete(id);
  }

  /** @param {Upload} upload Of a group of version 2. */
  async #second(upload) {
    const group = this.#around.groups.get(upload.groupId);
    if (!group) throw Object.assign(new Error('the groups are not loaded'), { retryable: true });
    await this.#around.versions.upload(group, upload);
  }

  /** @param {string} id @param {{loaded: number, total: number}} progress */
  progressed(id, { loaded, total }) {
    const upload = this.all.get(id);
    if (upload) upload.done = loaded / total;
    this.#around.changed();
  }

  /** @param {string} id @returns {AbortSignal | undefined} Aborted when the member pauses the upload. */
  signalOf(id) {
    return this.#running.get(id)?.signal;
  }

  /** @param {string} id @returns {Promise<Blob | undefined>} The encrypted file, of this or of another tab. */
  async sealedOf(id) {
    return this.all.get(id)?.sealed ?? (await this.#around.table.get(this.#prefix + id))?.sealed;
  }

  /** @param {Upload} upload */
  #wait(upload) {
    if (!this.all.has(upload.id)) return;
    this.#set(upload, 'waiting');
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.wake(), RETRY_MS);
  }

  /** @param {Upload} upload @param {Upload['state']} state @param {string} [error] */
  #set(upload, state, error) {
    Object.assign(upload, { state, error });
    this.#around.changed();
    if (this.all.has(upload.id) && upload.sealed) void this.#keep(upload);
  }

  /** Store an upload. If the disk is full it is sent all the same, but does not survive a reload. @param {Upload} upload */
  async #keep(upload) {
    await this.#around.table.set(this.#prefix + upload.id, { ...upload }).catch(() => {});
    if (!this.all.has(upload.id)) await this.#around.table.delete(this.#prefix + upload.id).catch(() => {});
  }

  /** Pause an upload, also while it is being encrypted. @param {string} id */
  pause(id) {
    this.#running.get(id)?.abort();
    const upload = this.all.get(id);
    if (upload?.state === 'waiting') this.#set(upload, 'paused');
  }

  /** @param {string} id */
  discard(id) {
    const { groupId = '', iv } = this.all.get(id) ?? {};
    if (iv === '') void this.#around.versions.cipher?.discardFile(groupId, id).catch(() => {});
    this.all.delete(id);
    this.#files.delete(id);
    this.#running.get(id)?.abort();
    void this.#around.table.delete(this.#prefix + id).catch(() => {});
    this.#around.changed();
  }

  /** The medium is in its thread. @param {string} id */
  arrived(id) {
    if (this.all.has(id)) this.discard(id);
  }
}
