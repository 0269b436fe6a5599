/** Photos and videos on their way: sealed before they go up, opened after they came down. */
import { openFile, seal, sealFile } from './crypto.js';
import { uploads } from './vault.js';

/** @typedef {import('./family.js').Family} Family */
/** @typedef {import('./family.js').Group} Group */
/** @typedef {import('./family.js').Item} Item */

/** What a page may show. Anything else is only saved: a type that a browser would run must not come from a photo's description. */
const SHOWN = /^(image\/(png|jpeg|gif|webp|avif|bmp)|video\/(mp4|webm|ogg|quicktime)|audio\/(mpeg|mp4|ogg|webm|wav))$/;

/**
 * @typedef {object} Upload
 * @property {string} id The medium's.
 * @property {string} groupId
 * @property {string} threadId
 * @property {string} name
 * @property {'sealing' | 'sending' | 'paused' | 'failed'} state
 * @property {number} done From 0 to 1.
 * @property {string} [error]
 * @property {Blob} [sealed]
 * @property {string} iv
 * @property {string} metadata Sealed.
 */

/**
 * @typedef {object} View
 * @property {'loading' | 'ready' | 'failed' | 'gone'} state
 * @property {number} done
 * @property {string} [url]
 * @property {string} [type]
 */

/** @param {string} type */
export const shownAs = (type) => (SHOWN.test(type) ? type : 'application/octet-stream');

/** @param {Blob} file @returns {Promise<{width?: number, height?: number}>} So that a place can be kept for a picture before it is there. */
async function measure(file) {
  if (!file.type.startsWith('image/')) return {};
  try {
    const { width, height } = await createImageBitmap(file);
    return { width, height };
  } catch {
    return {};
  }
}

/** The transfers of one member. What is on the disk meanwhile is sealed. */
export class Transfers {
  /** @type {Map<string, Upload>} */
  uploads = new Map();
  /** @type {Map<string, View>} */
  views = new Map();
  /** @type {Map<string, AbortController>} */
  #running = new Map();
  #family;
  #client;

  /** @param {Family} family @param {import('/sdk/client.js').OrbitalClient} client */
  constructor(family, client) {
    this.#family = family;
    this.#client = client;
    // Without a place for keys there is none for photos, and the page says so.
    this.#restore().catch(() => {});
  }

  get #prefix() {
    return `${this.#family.session.user_id}/`;
  }

  /** Uploads that an earlier run of this page left are shown as paused. */
  async #restore() {
    for (const kept of await uploads.all(this.#prefix)) this.uploads.set(kept.id, { ...kept, state: 'paused' });
    if (this.uploads.size) this.#family.changed();
  }

  stop() {
    for (const running of this.#running.values()) running.abort();
    for (const { url } of this.views.values()) if (url) URL.revokeObjectURL(url);
    this.views.clear();
  }

  /** @param {Group} group @param {string} threadId @param {File} file */
  async add(group, threadId, file) {
    const key = /** @type {CryptoKey} */ (group.key);
    const id = crypto.randomUUID();
    /** @type {Upload} */
    const upload = { id, groupId: group.id, threadId, name: file.name, state: 'sealing', done: 0, iv: '', metadata: '' };
    this.uploads.set(id, upload);
    this.#family.changed();
    const running = new AbortController();
    this.#running.set(id, running);
    try {
      const info = { name: file.name, type: file.type, by: this.#family.session.username, ...(await measure(file)) };
      upload.metadata = await seal(key, group.id, `media-info/${id}`, JSON.stringify(info));
      const { sealed, iv } = await sealFile(key, group.id, id, file, running.signal);
      Object.assign(upload, { sealed, iv });
      // Without room for it here it goes up all the same, and only a reload would end it.
      await uploads.set(this.#prefix + id, upload).catch(() => {});
    } catch (error) {
      if (!running.signal.aborted) this.#failed(upload, error);
      return;
    }
    await this.send(upload);
  }

  /** Send what the server does not have yet. @param {Upload} upload */
  async send(upload) {
    const { sealed, metadata, iv, threadId, id } = upload;
    if (!sealed) return;
    const running = new AbortController();
    this.#running.set(id, running);
    Object.assign(upload, { state: 'sending', error: undefined });
    this.#family.changed();
    try {
      await this.#client.uploadMedia({
        media_id: id,
        thread_id: threadId,
        data: sealed,
        encrypted_metadata: metadata,
        encryption_iv: iv,
        signal: running.signal,
        onProgress: ({ loaded, total }) => {
          upload.done = loaded / total;
          this.#family.changed();
        },
      });
      this.arrived(id);
    } catch (error) {
      if (running.signal.aborted) upload.state = 'paused';
      else this.#failed(upload, error);
    }
    this.#running.delete(id);
    this.#family.changed();
  }

  /** @param {Upload} upload @param {unknown} error */
  #failed(upload, error) {
    Object.assign(upload, { state: 'failed', error: /** @type {Error} */ (error).message });
    this.#family.changed();
  }

  /** Break an upload off; it can go on later. @param {string} id */
  pause(id) {
    this.#running.get(id)?.abort();
  }

  /** @param {string} id */
  discard(id) {
    this.#running.get(id)?.abort();
    this.#drop(id);
  }

  /** The medium is in its thread. @param {string} id */
  arrived(id) {
    if (this.uploads.has(id)) this.#drop(id);
  }

  /** @param {string} id */
  #drop(id) {
    this.uploads.delete(id);
    void uploads.delete(this.#prefix + id);
    this.#family.changed();
  }

  /** Fetch and open a medium. @param {Group} group @param {Item} item */
  async fetch(group, item) {
    const had = this.views.get(item.id);
    if (!group.key || !item.info || had?.state === 'loading' || had?.state === 'ready') return;
    /** @type {View} */
    const view = { state: 'loading', done: 0 };
    this.views.set(item.id, view);
    this.#family.changed();
    try {
      const { blob } = await this.#client.downloadMedia(item.id, {
        onProgress: ({ loaded, total }) => {
          view.done = loaded / total;
          this.#family.changed();
        },
      });
      const type = shownAs(item.info.type);
      const opened = await openFile(group.key, group.id, item.id, blob, type);
      Object.assign(view, { state: 'ready', type, url: URL.createObjectURL(opened) });
    } catch (error) {
      view.state = /** @type {any} */ (error).code === 'GONE' ? 'gone' : 'failed';
    }
    this.#family.changed();
  }
}
