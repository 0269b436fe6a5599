/** Downloaded and decrypted media, held while the page is open. */
import { openFile } from '../crypto/files.js';
import { shownAs } from './medium.js';

/** @import {OrbitalClient} from '/sdk/client.js' */
/** @import {Group, Item} from './types.js' */
/** @import {Versions} from './versions.js' */

/** @typedef {{state: 'loading' | 'ready' | 'failed' | 'gone', done: number, url?: string, type?: string}} View */

/** The decrypted media of one member, in memory only. */
export class Downloads {
  /** @type {Map<string, View>} By the medium's id. */
  views = new Map();
  #client;
  #changed;

  #versions;

  /** @param {Pick<OrbitalClient, 'downloadMedia'>} client @param {Versions} versions @param {() => void} changed */
  constructor(client, versions, changed) {
    this.#versions = versions;
    this.#client = client;
    this.#changed = changed;
  }

  stop() {
    for (const { url } of this.views.values()) if (url) URL.revokeObjectURL(url);
    this.views.clear();
  }

  /** Download and decrypt a medium, unless it is loaded or loading. @param {Group} group @param {Item} item */
  async fetch(group, item) {
    const had = this.views.get(item.id);
    if (!group.key || !item.info || had?.state === 'loading' || had?.state === 'ready') return;
    /** @type {View} */
    const view = { state: 'loading', done: 0 };
    this.views.set(item.id, view);
    this.#changed();
    try {
      const { blob } = await this.#client.downloadMedia(item.id, {
        onProgress: ({ loaded, total }) => {
          view.done = loaded / total;
          this.#changed();
        },
      });
      const type = shownAs(item.info.type);
      const opened = this.#versions.hasOwnKey(group, item.id)
        ? await (await this.#versions.load()).openFile(group.id, item.id, blob, type)
        : await openFile(group.key, group.id, item.id, blob, type);
      Object.assign(view, { state: 'ready', type, url: URL.createObjectURL(opened) });
    } catch (error) {
      view.state = /** @type {any} */ (error).code === 'GONE' ? 'gone' : 'failed';
    }
    this.#changed();
  }
}
