/** End-to-end encryption on top of `@orbital-relay/client`: a device, and its groups as streams of plaintext. */
import { foldAnnotations } from './annotation-fold.js';
import { writeAnnotation } from './annotation-kinds.js';
import { utf8, uuidBytes } from './bytes.js';
import { isLeftForLater, isRetryable } from './delivering.js';
import { E2eeError, isCode } from './errors.js';
import { fetchFile, filesInMemory } from './files.js';
import { KINDS } from './formats/content.js';
import { HPKE_STOCK, LAST_RESORT_MS } from './hpke-delivery.js';
import { readInvite } from './invite.js';
import { sealFile, writeMediaInfo } from './media.js';
import { Member } from './member.js';
import { hpkeRatchet } from './ratchet.js';
import { logEvent, sdkRelay, startAt } from './sdk-relay.js';

/** @import { AnnotatedTarget } from './annotation-fold.js' */
/** @import { Annotation } from './annotation-kinds.js' */
/** @import { SealedFiles } from './files.js' */
/** @import { Item } from './contents.js' */
/** @import { MediaInfo } from './media.js' */
/** @import { NewPart } from './member.js' */
/** @import { Ratchet, Store, Visit } from './ports.js' */
/** @import { Sdk } from './sdk-relay.js' */

export { annotationOf } from './annotation-kinds.js';
export { filesInMemory } from './files.js';
export { sdkRelay } from './sdk-relay.js';

/** How often requests for missing keys and posts that failed are looked at, in milliseconds. */
export const TICK_MS = 1000;

/** Kinds of content whose body is text. */
const TEXTS = new Set(/** @type {number[]} */ ([KINDS.message, KINDS.title, KINDS.body, KINDS.reply, KINDS.name]));

/** @param {Item} item @returns {string} What a message or reply says, or the title of a thread; empty for a file, an annotation, and what is not readable. */
export const textOf = ({ parts: [first] }) =>
  first && TEXTS.has(first.kind) ? new TextDecoder('utf-8', { ignoreBOM: true }).decode(first.body) : '';

/**
 * One device of the user of an SDK client, with its store.
 *
 * It offers its keys in the directory when it is opened, and refills them when the server reports that they run low.
 */
export class CipherClient {
  #orbital;
  #files;
  #visit;
  #off = () => {};
  /** @type {Set<GroupCipher>} */
  #groups = new Set();

  /** @internal @param {Sdk} orbital @param {Member} device @param {SealedFiles} files @param {Visit} [visit] */
  constructor(orbital, device, files, visit) {
    this.#orbital = orbital;
    this.#files = files;
    this.#visit = visit;
    /** The device itself: rosters, safety numbers, history and revocations are there. */
    this.device = device;
  }

  /**
   * Be a device.
   *
   * @param {Sdk} orbital An `OrbitalClient` with a token, made with `verify: true`; it stays yours to close.
   * @param {object} options
   * @param {Store} options.store The device's own; no other device uses it.
   * @param {string} options.user The UUID of the token's user, as `login()` and `signup()` return it.
   * @param {number} [options.device] 1 to 127. When left out, it is the store's; a new store gets the user's next free number from the directory.
   * @param {Ratchet} [options.ratchet] HPKE and this package's own chains when left out.
   * @param {string} [options.chainName] Each tab that shares a store has its own; in IndexedDB each visit gets one, and sends what closed tabs left.
   * @param {boolean} [options.keepFrames] Keep every frame as it was received, so that `audit` can export a group's log; the store grows with the log.
   * @param {SealedFiles} [options.files] Where sealed files wait until the server has them; in memory when left out, and lost with the process.
   * @returns {Promise<CipherClient>}
   * @throws What the SDK throws when the keys cannot be published.
   */
  static async open(
    orbital,
    { store, user, device: number, ratchet = hpkeRatchet(store), chainName, keepFrames = false, files = filesInMemory() },
  ) {
    const visit = chainName === undefined ? await store.visit?.() : undefined;
    /** One tab makes the keys, and the others find them. @template T @param {() => Promise<T>} work @returns {Promise<T>} */
    const alone = (work) => (visit ? visit.alone(work) : work());
    const relay = sdkRelay(orbital, () => device, { files });
    const begin = async () => {
      const known = number ?? /** @type {number | undefined} */ (await store.get('meta', 'device')) ?? 0;
      const name = chainName ?? visit?.name ?? 'main';
      const made = new Member({ store, ratchet, relay, user, device: known, chainName: name, inbox: true, keepFrames });
      const published = await made.publishedAt();
      if (published === null || Date.now() - published >= LAST_RESORT_MS) await made.publishKeys(published === null ? HPKE_STOCK : 0);
      return made;
    };
    /** @type {Member} */
    const device = await alone(begin).catch((error) => {
      visit?.end();
      throw error;
    });
    const client = new CipherClient(orbital, device, files, visit);
    const refill = async () => {
      // Another tab may have refilled it meanwhile.
      const counts = await orbital.api.keyCounts();
      const own = counts.find((/** @type {{device_id: number}} */ one) => one.device_id === device.me.device);
      if (own && own.hpke_pre_keys < HPKE_STOCK) await device.publishKeys(HPKE_STOCK - own.hpke_pre_keys);
    };
    client.#off = orbital.on('keys_low', ({ device_id }) => {
      // What it rejects with is reported by the SDK, as of any handler.
      if (device_id === device.me.device) return alone(refill);
    });
    return client;
  }

  /** Make this device the founder of a group that its user has just made on the server. @param {string} groupId @returns {Promise<void>} */
  found(groupId) {
    return this.device.found(groupId);
  }

  /**
   * Open a group as a stream of plaintext. A device that is not in it yet enters it.
   *
   * @param {string} groupId The user is a member of it on the server.
   * @param {{invite?: string, secretNumber?: number}} [options] `invite`: the part of an invite link after the `#`; needed the first time, unless
   *   this device founded the group. `secretNumber`: what the link says of its secret.
   * @returns {Promise<GroupCipher>}
   * @throws {E2eeError} `not_found` when the group is unknown here and no invite was given, `malformed` when the invite is not 43 letters.
   */
  async group(groupId, { invite, secretNumber = 0 } = {}) {
    try {
      await this.device.group(groupId);
    } catch (error) {
      if (!isCode(error, 'not_found') || invite === undefined) throw error;
      const read = readInvite(invite);
      if (!read) throw new E2eeError('malformed', 'the invite is not the 43 letters that stand behind the # of a link');
      await this.device.join(groupId, read, { secretNumber });
    }
    const group = new GroupCipher(this.#orbital, this.device, groupId, this.#files, this.#visit);
    this.#groups.add(group);
    return group;
  }

  /**
   * Return an audit file of a group: what this device received, signed by it; `orbital verify` reads it. It holds encrypted frames, and no key.
   *
   * @param {string} groupId
   * @returns {Promise<Uint8Array<ArrayBuffer>>}
   * @throws {E2eeError} `not_found` when the group is unknown here, or the store has kept no frames of it.
   */
  audit(groupId) {
    return this.device.audit(groupId);
  }

  /** Close the groups; drafts and positions stay in the store. @returns {Promise<void>} When nothing of them runs any more. */
  async close() {
    this.#off();
    await Promise.all([...this.#groups].map((group) => group.close()));
    this.#visit?.end();
  }
}

/**
 * A group whose content is encrypted end to end.
 *
 * Messages arrive decrypted, in the order in which they could be read; each once, also over restarts. What is sent is kept in the store until the
 * server has it. What cannot be read yet is asked for.
 */
export class GroupCipher {
  #device;
  #orbital;
  #files;
  #visit;
  /** @type {ReturnType<Sdk['subscribe']> | undefined} */
  #subscription;
  #closed = false;
  /** @type {unknown} Why reading or sending ended. */
  #error;
  #ended = false;
  /** Wakes the caller that waits for news. */
  #wake = () => {};
  #rest = () => {};
  #running;

  /** @internal @param {Sdk} orbital @param {Member} device @param {string} groupId @param {SealedFiles} files @param {Visit} [visit] */
  constructor(orbital, device, groupId, files, visit) {
    this.#device = device;
    this.#orbital = orbital;
    this.#files = files;
    this.#visit = visit;
    this.groupId = groupId;
    this.#running = Promise.all([this.#run(() => this.#read()), this.#run(() => this.#tend())]);
  }

  /**
   * Send a message; it is kept, and sent later, when the server cannot be reached.
   *
   * @param {string} text
   * @param {{answering?: Item}} [options] `answering`: a message that this answers counts as handled with it, so that it is answered once.
   * @returns {Promise<string>} Its idempotency key.
   * @throws {E2eeError} `stopped` when sending waits for a person's decision; the SDK's error when the server refuses it.
   */
  send(text, options) {
    return this.#post('new_message', [{ field: 'encrypted_envelope', kind: KINDS.message, body: utf8(text) }], options, {
      timestamp: Date.now(),
    });
  }

  /** Open a thread; the same promises as `send`. @param {string} title @param {string} body @returns {Promise<string>} */
  openThread(title, body) {
    return this.#post('new_thread', [
      { field: 'encrypted_title', kind: KINDS.title, body: utf8(title) },
      { field: 'encrypted_body', kind: KINDS.body, body: utf8(body) },
    ]);
  }

  /** Reply in a thread; the same promises as `send`. @param {string} threadId @param {string} text @param {{answering?: Item}} [options] @returns {Promise<string>} */
  reply(threadId, text, options) {
    const part = { field: 'encrypted_body', kind: KINDS.reply, context: uuidBytes(threadId), body: utf8(text) };
    return this.#post('new_reply', [part], options, { thread_id: threadId });
  }

  /**
   * Annotate a thread, or a reply or file in it; the same promises as `send`.
   *
   * @param {string} threadId
   * @param {string} targetId The id of the thread, the reply or the medium.
   * @param {Annotation} annotation
   * @returns {Promise<string>}
   * @throws {RangeError} When a value of the annotation is out of its bounds.
   */
  annotate(threadId, targetId, annotation) {
    const body = writeAnnotation(annotation);
    const part = { field: 'encrypted_body', kind: KINDS.annotation, context: uuidBytes(targetId), body };
    return this.#post('new_annotation', [part], {}, { thread_id: threadId, target_id: targetId });
  }

  /** @returns {Promise<Map<string, AnnotatedTarget>>} What the annotations that were read come to, by the id of their target. */
  async annotated() {
    return foldAnnotations(await this.#device.items(this.groupId));
  }

  /**
   * Send a file to a thread, under a key of its own; the same promises as `send`.
   *
   * @param {string} threadId
   * @param {Blob} file It is read before this resolves.
   * @param {{name?: string, type?: string}} [options] What members see; the file's own when left out.
   * @returns {Promise<string>} The id of the medium.
   */
  async sendFile(threadId, file, { name = /** @type {Partial<File>} */ (file).name ?? '', type = file.type } = {}) {
    const mediaId = crypto.randomUUID();
    const { key, sealed, sha256 } = await sealFile(mediaId, file);
    await this.#files.set(mediaId, sealed);
    const body = writeMediaInfo({ key, sha256, type, name });
    const part = { field: 'encrypted_metadata', kind: KINDS.media, context: uuidBytes(mediaId), body };
    await this.#post('media_uploaded', [part], {}, { media_id: mediaId, thread_id: threadId });
    return mediaId;
  }

  /**
   * Download the file of an item, and open it.
   *
   * @param {Item} item A `media_uploaded` that was read.
   * @param {{signal?: AbortSignal}} [options]
   * @returns {Promise<{info: MediaInfo, blob: Blob}>} Every byte is known to be the uploader's.
   * @throws {E2eeError} `not_found` when the item is not a file that was read; `cannot_open` when the bytes are others.
   * @throws The SDK's `GONE` when the server has deleted it.
   */
  fetchFile(item, options) {
    return fetchFile(this.#orbital, item, options);
  }

  /**
   * Iterate over what others sent, decrypted; an item counts as handled when the next one is asked for. It ends when the group is closed.
   *
   * @returns {AsyncGenerator<Item, void, undefined>}
   * @throws What ended the reading.
   */
  async *messages() {
    for (;;) {
      const news = new Promise((resolve) => (this.#wake = () => resolve(undefined)));
      for (const item of await this.#device.unhandled(this.groupId)) {
        if (this.#closed) return;
        yield item;
        await this.#device.handled(item);
      }
      if (this.#error) throw this.#error;
      if (this.#ended) return;
      if (!(await this.#device.unhandled(this.groupId, 1)).length) await news;
    }
  }

  /** Stop reading and sending; drafts and the position stay in the store. @returns {Promise<void>} */
  async close() {
    this.#closed = true;
    this.#subscription?.close();
    this.#rest();
    await this.#running;
  }

  /** @param {() => Promise<void>} work */
  async #run(work) {
    try {
      await work();
    } catch (error) {
      this.#error ??= error;
    }
    this.#ended = true;
    this.#wake();
  }

  /** Process the log, from where the store stands. */
  async #read() {
    const { position } = await this.#device.group(this.groupId);
    if (this.#closed) return;
    // Behind a gap the hash may be unknown.
    const since = position.hash ? position : position.seq;
    this.#subscription = this.#orbital.subscribe(this.groupId, { since, store: null });
    for await (const item of this.#subscription) {
      if (item.type === 'caught_up') this.#device.caughtUp(this.groupId);
      else if (item.type === 'reset') await this.#device.skipTo(this.groupId, await startAt(this.#orbital, this.groupId, item.data.seq));
      else await this.#device.receive(logEvent(item));
      this.#wake();
    }
  }

  /** Send what waits here and in closed tabs, ask for missing keys, and try again what failed. */
  async #tend() {
    while (!this.#closed && !this.#error) {
      if (this.#visit) await this.#device.adoptDrafts(this.groupId, await this.#visit.open());
      await this.#device.tick(this.groupId);
      try {
        await this.#device.flush(this.groupId);
      } catch (error) {
        if (!isLeftForLater(error)) throw error;
      }
      this.#wake();
      if (this.#closed) return;
      await new Promise((resolve) => {
        const timer = setTimeout(resolve, TICK_MS);
        this.#rest = () => {
          clearTimeout(timer);
          resolve(undefined);
        };
      });
    }
  }

  /**
   * @param {string} type
   * @param {NewPart[]} parts
   * @param {{answering?: Item}} [options]
   * @param {Record<string, unknown>} [plain]
   */
  async #post(type, parts, options = {}, plain = {}) {
    const key = await this.#device.draft(this.groupId, type, parts, plain, options);
    try {
      await this.#device.flush(this.groupId);
    } catch (error) {
      if (!isRetryable(error) && !isCode(error, 'epoch_changed')) throw error;
    }
    return key;
  }
}
