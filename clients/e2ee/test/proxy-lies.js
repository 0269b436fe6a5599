/** The lies of a proxy before the real server, by a seeded script: every client faces the same. */
import { createHash } from 'node:crypto';
import { fromBase64, toBase64 } from '../src/index.js';
import { raised, seeded } from './people.js';

export const GHOST = 'dddddddd-0000-4000-8000-00000000000d';
/** What members said: nothing else may be shown. */
export const TRUTH = ['first', 'second', 'reply 0', 'reply 1', 'reply 2', 'reply 3'];

const sha256 = (text) => createHash('sha256').update(text).digest('base64url');

/** Number and chain frames as the server would; those before the first change stay byte for byte. */
function chained(group, frames, texts) {
  let prev = sha256(group);
  return frames.map(({ type, data, server_timestamp = 1 }, at) => {
    const made = { type, data, server_timestamp, group_id: group, seq: at + 1, prev };
    const own = texts[at] && JSON.parse(texts[at]);
    const same = own && own.prev === prev && JSON.stringify([own.type, own.data]) === JSON.stringify([type, data]);
    const text = same ? texts[at] : JSON.stringify(made);
    prev = sha256(text);
    return text;
  });
}

/** @param {string[]} texts Frames of the log. @param {string} type @returns {number[]} Where events of that type are. */
const placesOf = (texts, type) => texts.flatMap((text, at) => (JSON.parse(text).type === type ? [at] : []));

/** Edits of the log; each names the warnings of which one must be seen. */
const LOG = {
  drop: (world, events, pick) => (events.splice(pick(world.said.slice(0, -1)), 1), ['two_histories']),
  repeat: (world, events, pick) => {
    const at = pick(world.said);
    events.splice(at + 1, 0, structuredClone(events[at]));
    return ['repeated'];
  },
  reorder: (world, events, pick) => {
    const at = pick(world.said.slice(0, -2));
    events.splice(at, 2, events[at + 1], events[at]);
    return ['two_histories'];
  },
  swap_target: (world, events) => ((events[world.annotated].data.target_id = GHOST), ['misplaced']),
  swap_thread: (world, events, pick) => ((events[pick(world.said)].data.thread_id = GHOST), ['misplaced']),
  change_author: (world, events, pick) => {
    const { data } = events[pick(world.said)];
    data.author_id = data.author_id === world.others[0] ? world.others[1] : world.others[0];
    return ['wrong_sender'];
  },
  other_group: (world, events, pick) => {
    events.splice(pick(world.said), 0, { type: 'new_message', data: { ...world.foreign, conversation_id: world.group } });
    return ['misplaced'];
  },
  two_histories: (world, events, pick) => {
    events.splice(world.known, 0, { type: 'something_new', data: { marked: pick([1, 2, 3]) } });
    events.splice(pick(world.said.slice(0, -1)) + 1, 1);
    return ['two_histories'];
  },
  raise_s: (world, events, pick) => {
    const { data } = events[pick(world.said)];
    data.encrypted_body = raised(data.encrypted_body);
    return ['bad_signature'];
  },
  change_bytes: (world, events, pick) => {
    const { data } = events[pick(world.said)];
    const bytes = fromBase64(data.encrypted_body);
    bytes[pick(Array.from({ length: bytes.length - 35 }, (_, at) => 35 + at))] ^= 1 << pick([0, 1, 2, 3, 4, 5, 6, 7]);
    data.encrypted_body = toBase64(bytes);
    return ['bad_signature', 'unreadable', 'too_far_ahead'];
  },
  swapped_identity: (world, events, pick) => {
    const data = { user_id: pick(world.others), device_id: 1, change: 'identity', identity_key: world.stranger };
    events.push({ type: 'identity_changed', data });
    return ['identity_differs'];
  },
  ghost_member: (_world, events) => {
    events.push({ type: 'member_joined', data: { user_id: GHOST, username: 'ghost' } });
    return [];
  },
  honest: () => [],
};

/** Change the answers of one path. */
const changed = (wanted, change) => (path, body) => (path === wanted ? change(body) : body);

/** Lies in answers: what the client, which has read the log, does then, and the warning that must be seen. */
const ANSWERS = {
  ghost_device: (_world, proxy, pick) => {
    const ghost = (devices) => ({ ...devices[0], device_id: pick([2, 9, 127]) });
    proxy.change = changed('/v1/keys/devices', (body) => ({ ...body, devices: [...body.devices, ghost(body.devices)] }));
    return { act: 'check_directory', wanted: ['unknown_device'] };
  },
  swapped_directory: (world, proxy, pick) => {
    const user = pick(world.others);
    const swapped = (one) => (one.user_id === user ? { ...one, identity_key: world.stranger } : one);
    proxy.change = changed('/v1/keys/devices', (body) => ({ ...body, devices: body.devices.map(swapped) }));
    return { act: 'check_directory', wanted: ['identity_differs'] };
  },
  swapped_bundle: (world, proxy, pick) => {
    const field = pick(['identity_key', 'hpke_pre_key']);
    const unsigned = (key) => ({ ...key, signature: toBase64(new Uint8Array(64)) });
    const lie = (one) => ({ ...one, [field]: field === 'identity_key' ? world.stranger : unsigned(one[field]) });
    proxy.change = changed('/v1/keys/claims', (body) => ({ ...body, bundles: body.bundles.map(lie) }));
    return { act: 'renew_and_post', wanted: ['bad_bundle'] };
  },
  withheld_removal: (world, _proxy, pick) => ({ act: 'revoke', user: pick(world.others), wanted: ['withheld_removal'] }),
  withheld_post: () => ({ act: 'post', wanted: ['withheld_post'] }),
};

export const NAMES = Object.freeze([...Object.keys(LOG), ...Object.keys(ANSWERS), 'rollback']);

/**
 * What members of a group said, for lies to one of them.
 *
 * @typedef {object} World
 * @property {string} group
 * @property {string[]} texts Frames of its log, with the six texts of TRUTH and an annotation; the replies and the annotation are
 *   what the client has not read yet.
 * @property {string[]} elsewhere Frames of another group of theirs, with a message.
 * @property {string[]} others User ids of the two who wrote.
 * @property {number} known How many events the client has read.
 * @property {string} stranger An identity key of nobody in the group, base64.
 */

/**
 * What the proxy does, and what must be seen.
 *
 * @typedef {object} Lie
 * @property {number} round
 * @property {string} name
 * @property {number} length Events in the log that the client is shown.
 * @property {string[]} wanted Warnings of which one must be seen.
 * @property {'check_directory' | 'renew_and_post' | 'revoke' | 'post'} [act] What the client does when it has read them.
 * @property {string} [user] Who is revoked.
 */

/** Makes a proxy lie: another lie with each call of `next`. */
export class Script {
  #proxy;
  #world;
  #random;
  #round = 0;

  /** @param {import('../../javascript/test/liar.js').LyingProxy} proxy @param {World} world @param {number} seed */
  constructor(proxy, world, seed) {
    const foreign = world.elsewhere.map((text) => JSON.parse(text)).findLast(({ type }) => type === 'new_message').data;
    this.#world = { ...world, foreign, said: placesOf(world.texts, 'new_reply'), annotated: placesOf(world.texts, 'new_annotation')[0] };
    this.#proxy = proxy;
    this.#random = seeded(seed);
  }

  /** Begin the next lie. @returns {Lie} */
  next() {
    const world = this.#world;
    const proxy = this.#proxy;
    const round = this.#round++;
    const pick = (list) => list[Math.floor(this.#random() * list.length)];
    const name = NAMES[round] ?? pick(NAMES);
    const events = world.texts.map((text) => {
      const { type, data, server_timestamp } = JSON.parse(text);
      return { type, data, server_timestamp };
    });
    const wanted = LOG[name]?.(world, events, pick) ?? [];
    const forged = chained(world.group, events, world.texts);
    Object.assign(proxy, { lastSeq: world.texts.length, change: (_path, body) => body, stands: (_group, at) => at });
    proxy.forged = new Map([[world.group, forged]]);
    // Every post is answered as stored, and no event of it is ever shown.
    proxy.answer = ({ method, path }) => {
      if (method !== 'POST' || /ticket|claims/.test(path)) return undefined;
      const ids = { message_id: GHOST, record_id: GHOST, keys_id: GHOST, reply_id: GHOST };
      return [201, { ...ids, seq: world.texts.length, server_timestamp: 1, created_at: '2026-01-01T00:00:00Z' }];
    };
    if (name === 'rollback') {
      const back = pick(Array.from({ length: world.known - 1 }, (_, at) => at + 1));
      proxy.forged.set(world.group, world.texts.slice(0, world.known - back));
      proxy.stands = (_group, where) => ({ ...where, recovered: false });
    }
    const more = ANSWERS[name]?.(world, proxy, pick);
    return { round, name, wanted, ...more, length: proxy.forged.get(world.group).length };
  }
}
