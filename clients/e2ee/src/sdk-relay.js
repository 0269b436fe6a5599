/** The relay of a device over `@orbital-relay/client`: posts, the directory of keys, and the group's log. */
import { fromBase64, toBase64, toBase64Url, toHex, utf8 } from './bytes.js';
import { E2eeError } from './errors.js';
import { filesInMemory, postFile } from './files.js';

/** @import { SealedFiles } from './files.js' */
/** @import { Bundle, PublishedKeys, Relay, SignedKey } from './ports.js' */
/** @import { LogEvent } from './state.js' */

/**
 * What is used of an `OrbitalClient`. It is made with `verify: true`: an event without its hash is refused.
 *
 * @typedef {object} Sdk
 * @property {any} api Its REST side.
 * @property {(groupId: string, options: {since: number | {seq: number, hash: string}, store: null}) => AsyncIterable<any> & {close: () => void}} subscribe
 * @property {(options: any) => Promise<unknown>} uploadMedia
 * @property {(mediaId: string, options?: any) => Promise<{blob: Blob}>} downloadMedia
 * @property {(event: 'keys_low', handler: (data: {device_id: number, hpke_pre_keys: number}) => void) => () => void} on
 */

/** @param {string | Uint8Array} content @returns {Promise<Uint8Array<ArrayBuffer>>} */
const sha256 = async (content) =>
  new Uint8Array(
    await crypto.subtle.digest('SHA-256', typeof content === 'string' ? utf8(content) : /** @type {BufferSource} */ (content)),
  );

/** @param {SignedKey} key */
const offered = ({ id, key, signature }) => ({ id, key: toBase64(key), signature: toBase64(signature) });

/** @param {{id: number, key: string, signature: string} | null} key @returns {SignedKey | undefined} */
const signed = (key) => (key ? { id: key.id, key: fromBase64(key.key), signature: fromBase64(key.signature) } : undefined);

/**
 * Make an event of the SDK one that a device processes.
 *
 * @param {any} event
 * @returns {LogEvent}
 * @throws {E2eeError} `unsupported` when it has no hash.
 */
export function logEvent({ group_id, seq, type, data, hash, prev, text }) {
  if (!hash) throw new E2eeError('unsupported', 'the event has no hash: make the OrbitalClient with verify: true');
  return { group_id, seq, type, data, hash, ...(prev && { prev }), ...(text && { text }) };
}

/** @param {any} one A bundle as the server sends it. @returns {Bundle[]} None when a key is not base64: the device counts as missing. */
function bundleOf(one) {
  try {
    const [hpkePreKey, signedPreKey, kyberPreKey] = [signed(one.hpke_pre_key), signed(one.signed_pre_key), signed(one.kyber_pre_key)];
    const preKey = one.pre_key && { id: one.pre_key.id, key: fromBase64(one.pre_key.key) };
    return [
      {
        ...{ user: one.user_id, device: one.device_id, suite: one.suite, identity: fromBase64(one.identity_key) },
        lastResort: one.last_resort,
        ...(hpkePreKey && { hpkePreKey }),
        ...(signedPreKey && { signedPreKey }),
        ...(kyberPreKey && { kyberPreKey }),
        ...(preKey && { preKey }),
        ...(one.registration_id !== null && { registrationId: one.registration_id }),
      },
    ];
  } catch {
    return [];
  }
}

/** @param {PublishedKeys} keys @returns {object} The body of `PUT /v1/keys`. */
const keysBody = ({ device, identity, suites, registrationId, preKeys, kyberPreKeys, hpkePreKeys, ...fixed }) => ({
  // Left out, the server gives the next free one, or that of the same identity.
  ...(device !== 0 && { device_id: device }),
  identity_key: toBase64(identity),
  suites,
  hpke_pre_keys: hpkePreKeys.map(offered),
  ...(registrationId !== undefined && { registration_id: registrationId }),
  ...(preKeys && { pre_keys: preKeys.map(({ id, key }) => ({ id, key: toBase64(key) })) }),
  ...(kyberPreKeys && { kyber_pre_keys: kyberPreKeys.map(offered) }),
  ...(fixed.signedPreKey && { signed_pre_key: offered(fixed.signedPreKey) }),
  ...(fixed.kyberPreKey && { kyber_pre_key: offered(fixed.kyberPreKey) }),
  ...(fixed.hpkePreKey && { hpke_pre_key: offered(fixed.hpkePreKey) }),
});

/**
 * Post the body of an event.
 *
 * @param {any} api
 * @param {string} group
 * @param {string} type
 * @param {Record<string, any>} body
 * @param {string} key
 * @returns {Promise<{seq: number}>}
 */
function post(api, group, type, body, key) {
  switch (type) {
    case 'new_message':
      return api.postMessage({ conversation_id: group, ...body }, { key });
    case 'new_thread':
      return api.createThread({ group_id: group, ...body }, { key });
    case 'new_reply': {
      const { thread_id, ...reply } = body;
      return api.createReply(thread_id, reply, { key });
    }
    case 'new_annotation': {
      const { thread_id, ...annotation } = body;
      return api.postAnnotation(thread_id, annotation, { key });
    }
    case 'new_keys':
      return api.postKeys({ group_id: group, ...body }, { key });
    case 'new_record':
      return api.postRecord(group, body, { key });
    default:
      throw new E2eeError('unsupported', `an event of type ${type} is not posted`);
  }
}

/**
 * The server as a device sees it, by a client of the SDK. It holds no key.
 *
 * @param {Sdk} orbital
 * @param {() => import('./member.js').Member} member The device itself; its events are read by `catchUp`.
 * @param {{files?: SealedFiles, onProgress?: (mediaId: string, progress: {loaded: number, total: number}) => void}} [options] `files`: where sealed
 *   files wait until the server has them; in memory when left out.
 * @returns {Relay}
 */
export function sdkRelay(orbital, member, { files = filesInMemory(), onProgress } = {}) {
  const { api } = orbital;
  return {
    async post(group, type, body, { key, ifEpoch }) {
      if (type === 'media_uploaded') return postFile(orbital, files, body, ifEpoch, onProgress);
      try {
        return await post(api, group, type, { ...body, ...(ifEpoch !== undefined && { if_epoch: ifEpoch }) }, key);
      } catch (error) {
        const { code, message, details } = /** @type {any} */ (error);
        if (code === 'EPOCH_CHANGED') throw new E2eeError('epoch_changed', message, { epoch: details.epoch });
        if (code === 'CONFLICT') throw new E2eeError('conflict', message);
        throw error;
      }
    },
    async claim(group, devices) {
      const wanted = devices.map(({ user, device, suite }) => ({ user_id: user, device_id: device, suite }));
      return (await api.claimKeys(group, wanted)).flatMap(bundleOf);
    },
    async putKeys(keys) {
      const body = keysBody(keys);
      // The key of the request follows from its content: a device that crashed before the answer repeats the same.
      const { device_id } = await api.publishKeys(body, { key: toHex(await sha256(JSON.stringify(body))) });
      return { device: device_id };
    },
    async devices(group) {
      const listed = [];
      for await (const { user_id, device_id, identity_key, suites, seen_at } of api.eachDevice(group)) {
        let identity = new Uint8Array(0);
        try {
          identity = fromBase64(identity_key);
        } catch {
          // An empty identity differs from any.
        }
        listed.push({ user: user_id, device: device_id, identity, suites, seenAt: Date.parse(seen_at) });
      }
      return listed;
    },
    async catchUp(group, seq) {
      for (;;) {
        const after = (await member().group(group)).position.seq;
        if (after >= seq) return;
        const { texts } = await api.eventPage({ group_id: group, after_seq: after }).catch((/** @type {any} */ error) => {
          if (error.code !== 'GONE') throw error;
          // The subscription skips what is no longer kept.
          throw new E2eeError('epoch_changed', `the events of ${group} after ${after} are no longer kept`, { epoch: seq });
        });
        if (!texts.length) return;
        for (const text of texts) await member().receive(logEvent({ ...JSON.parse(text), text, hash: toBase64Url(await sha256(text)) }));
      }
    },
  };
}

/**
 * Where a device continues in a group whose events up to a number are no longer kept.
 *
 * Members and records may be newer than that number; then their events follow, and change nothing.
 *
 * @param {Sdk} orbital
 * @param {string} group
 * @param {number} seq
 * @returns {Promise<import('./enrolment.js').Start>}
 */
export async function startAt({ api }, group, seq) {
  const members = (await api.members(group)).map((/** @type {{user_id: string}} */ one) => one.user_id);
  const records = [];
  for await (const { author_id, record, seq: at } of api.eachRecord(group)) {
    try {
      records.push({ seq: at, author: author_id, bytes: fromBase64(record) });
    } catch {
      // What is not base64 counts for nothing.
    }
  }
  // The epoch is that number at most; a higher one than the group's is accepted.
  return { position: { seq, hash: await hashAt(api, group, seq) }, epoch: seq, members, records };
}

/** @param {any} api @param {string} group @param {number} seq @returns {Promise<string>} Empty when that event is no longer kept. */
async function hashAt(api, group, seq) {
  if (seq === 0) return '';
  try {
    const { texts } = await api.eventPage({ group_id: group, after_seq: seq - 1, limit: 1 });
    return texts.length ? toBase64Url(await sha256(texts[0])) : '';
  } catch (error) {
    if (/** @type {any} */ (error).code === 'GONE') return '';
    throw error;
  }
}
