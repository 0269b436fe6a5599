/** This browser as a device of the member in groups of version 2: its store, its keys in the directory, its chain. */

import { deviceStore } from './vault.js';

/** @import {OrbitalClient} from '/sdk/client.js' */
/** @import {Member, Relay, SealedFiles, Store, Visit} from '../../vendor/e2ee.js' */
/** @typedef {typeof import('../../vendor/e2ee.js')} Library */
/** @typedef {{group: string, key: string, type: string, body: Record<string, any>, answer: any}} Sent */

/**
 * @typedef {object} Surroundings
 * @property {OrbitalClient} client Made with `verify: true`.
 * @property {string} userId
 * @property {SealedFiles} files Where encrypted files wait until the server has them.
 * @property {(mediaId: string, progress: {loaded: number, total: number}) => void} progress
 * @property {(mediaId: string) => AbortSignal | undefined} signal Ends the upload of a medium.
 * @property {(sent: Sent) => void} sent The server accepted a post.
 * @property {(failure: {key: string, error: any}) => void} failed The server did not.
 * @property {() => Promise<Library>} [library]
 * @property {(library: Library, name: string) => Promise<Store>} [store]
 */

/** @typedef {{library: Library, store: Store, member: Member, relay: Relay, visit: Visit | undefined}} Device */

/**
 * Open the device. A browser that has none becomes one: it offers its keys in the directory.
 *
 * The library is loaded here, so a member without a group of version 2 never loads it.
 *
 * @param {Surroundings} around
 * @returns {Promise<Device>}
 * @throws What the SDK throws when the keys cannot be published, and the browser when it cannot store keys.
 */
export async function openDevice(around) {
  const { client, userId, files, progress, signal, sent, failed } = around;
  const library = await (around.library ?? (() => import('../../vendor/e2ee.js')))();
  const { HPKE_STOCK, LAST_RESORT_MS, hpkeRatchet, indexedDbStore, sdkRelay } = library;
  const store = await (around.store ? around.store(library, deviceStore(userId)) : indexedDbStore(deviceStore(userId)));
  const visit = await store.visit?.();
  /** One tab makes the keys, and the others find them. @template T @param {() => Promise<T>} work @returns {Promise<T>} */
  const alone = (work) => (visit ? visit.alone(work) : work());
  const orbital = {
    api: client.api,
    uploadMedia: (/** @type {any} */ options) => client.uploadMedia({ ...options, signal: signal(options.media_id) }),
  };
  const relay = sdkRelay(/** @type {any} */ (orbital), () => member, { files, onProgress: progress });
  const post = /** @type {Relay['post']} */ (
    async (group, type, body, options) => {
      try {
        const answer = await relay.post(group, type, body, options);
        sent({ group, key: options.key, type, body, answer });
        return answer;
      } catch (error) {
        failed({ key: options.key, error });
        throw error;
      }
    }
  );
  const watched = { ...relay, post };
  const ratchet = hpkeRatchet(store);
  const begin = async () => {
    const known = /** @type {number | undefined} */ (await store.get('meta', 'device')) ?? 0;
    const made = new library.Member({ store, ratchet, relay: watched, user: userId, device: known, chainName: visit?.name ?? 'main' });
    const published = await made.publishedAt();
    if (published === null) await made.publishKeys(HPKE_STOCK);
    // Without the server the old ones serve: this must not keep the page from reading.
    else if (Date.now() - published >= LAST_RESORT_MS) await made.publishKeys(0).catch(() => {});
    return made;
  };
  /** @type {Member} */
  const member = await alone(begin).catch((error) => {
    visit?.end();
    throw error;
  });
  const refill = async () => {
    // Another tab may have refilled it meanwhile.
    const own = (await client.api.keyCounts()).find(({ device_id }) => device_id === member.me.device);
    if (own && own.hpke_pre_keys < HPKE_STOCK) await member.publishKeys(HPKE_STOCK - own.hpke_pre_keys);
  };
  client.on('keys_low', ({ device_id }) => (device_id === member.me.device ? alone(refill) : undefined));
  return { library, store, member, relay: watched, visit };
}
