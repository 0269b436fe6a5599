/** A server in memory: the requests that groups of version 2 make, and each group's log. Its clients look like the SDK's. */
import { createHash } from 'node:crypto';

/** @typedef {{members: Set<string>, log: any[], texts: string[], epoch: number, answers: Map<string, any>}} Group */

const EPOCHS = new Set(['member_joined', 'member_left', 'identity_changed', 'new_record']);
const sha256 = (/** @type {string} */ text) => createHash('sha256').update(text).digest('base64url');

export class FakeServer {
  /** @type {Map<string, Group>} */
  groups = new Map();
  /** @type {Map<string, any>} Published keys by `user/device`. */
  directory = new Map();
  /** @type {(type: string, user: string) => void} A test makes it throw. */
  before = () => {};

  /** @param {string} user @returns {string} */
  newGroup(user) {
    const id = crypto.randomUUID();
    this.groups.set(id, { members: new Set(), log: [], texts: [], epoch: 0, answers: new Map() });
    this.join(id, user);
    return id;
  }

  /** @param {string} id @param {string} user */
  join(id, user) {
    this.#of(id).members.add(user);
    this.append(id, 'member_joined', { group_id: id, user_id: user });
  }

  /** @param {string} id */
  #of(id) {
    return /** @type {Group} */ (this.groups.get(id));
  }

  /** @param {string} id @param {string} type @param {Record<string, unknown>} data @returns {number} */
  append(id, type, data) {
    const group = this.#of(id);
    const seq = group.log.length + 1;
    const text = JSON.stringify({ type, data, group_id: id, seq, prev: group.log.at(-1)?.hash ?? sha256(id) });
    group.texts.push(text);
    group.log.push({ ...JSON.parse(text), hash: sha256(text) });
    if (EPOCHS.has(type)) group.epoch = seq;
    return seq;
  }

  /** @param {string} user @param {string} id @param {string} type @param {Record<string, any>} body @param {string} key @param {Record<string, unknown>} made */
  async #post(user, id, type, { if_epoch, ...body }, key, made) {
    this.before(type, user);
    const group = this.#of(id);
    const known = group.answers.get(`${user}/${key}`);
    if (known) return known;
    if (if_epoch !== undefined && group.epoch > if_epoch)
      throw Object.assign(new Error('the group changed'), { code: 'EPOCH_CHANGED', status: 409, details: { epoch: group.epoch } });
    const answer = { ...made, created_at: new Date(0).toISOString() };
    const seq = this.append(id, type, { author_id: user, sender_id: user, ...answer, ...body });
    group.answers.set(`${user}/${key}`, { ...answer, seq });
    return { ...answer, seq };
  }

  /** @param {string} user @returns {any} An `OrbitalClient` of that user. */
  client(user) {
    const post = this.#post.bind(this, user);
    const records = async (/** @type {string} */ id) => this.#of(id).log;
    const groupOf = (/** @type {string} */ thread) =>
      [...this.groups].find(([, { log }]) => log.some(({ data }) => data.thread_id === thread))?.[0] ?? '';
    const api = {
      publishKeys: async (/** @type {any} */ body) => {
        const known = [...this.directory].filter(([name]) => name.startsWith(`${user}/`));
        const same = known.find(([, keys]) => keys.identity_key === body.identity_key)?.[0].split('/')[1];
        const device_id = body.device_id ?? Number(same ?? known.length + 1);
        const had = this.directory.get(`${user}/${device_id}`);
        this.directory.set(`${user}/${device_id}`, {
          ...had,
          ...body,
          hpke_pre_keys: [...(had?.hpke_pre_keys ?? []), ...body.hpke_pre_keys],
        });
        return { device_id };
      },
      keyCounts: async () => [],
      claimKeys: async (/** @type {string} */ _id, /** @type {any[]} */ wanted) =>
        wanted.map(({ user_id, device_id, suite }) => {
          const keys = this.directory.get(`${user_id}/${device_id}`);
          const hpke_pre_key = keys.hpke_pre_keys.shift() ?? keys.hpke_pre_key;
          return { user_id, device_id, suite, identity_key: keys.identity_key, hpke_pre_key, registration_id: null, last_resort: false };
        }),
      postRecord: (/** @type {string} */ id, /** @type {any} */ body, /** @type {any} */ { key }) => post(id, 'new_record', body, key, {}),
      postKeys: (/** @type {any} */ { group_id, ...body }, /** @type {any} */ { key }) => post(group_id, 'new_keys', body, key, {}),
      createThread: (/** @type {any} */ { group_id, ...body }, /** @type {any} */ { key }) =>
        post(group_id, 'new_thread', body, key, { thread_id: crypto.randomUUID() }),
      createReply: (/** @type {string} */ thread_id, /** @type {any} */ body, /** @type {any} */ { key }) =>
        post(groupOf(thread_id), 'new_reply', { thread_id, ...body }, key, { reply_id: crypto.randomUUID() }),
      members: async (/** @type {string} */ id) => [...this.#of(id).members].map((user_id) => ({ user_id })),
      eachRecord: async function* (/** @type {string} */ id) {
        for (const { type, data, seq } of (await records(id)).filter((one) => one.type === 'new_record')) yield { ...data, type, seq };
      },
      eventPage: async (/** @type {any} */ { group_id, after_seq }) => ({ texts: this.#of(group_id).texts.slice(after_seq) }),
    };
    return { api, on: () => () => {}, uploadMedia: async () => ({}) };
  }
}
