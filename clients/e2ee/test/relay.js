/** A relay in memory: an ordered, hash-chained log with epochs, idempotency and a key directory; a test can make it lie. */
import { sha256 as hash } from '@noble/hashes/sha2.js';
import { toBase64, toBase64Url, toHex, utf8, uuidBytes } from '../src/bytes.js';
import { E2eeError } from '../src/errors.js';
import { EPOCH_EVENTS, Member, hpkeRatchet, memoryStore, readInvite } from '../src/index.js';

/** What a post of each type adds by itself, as the server does. */
const FIELDS = {
  new_message: (group, user) => ({ message_id: randomUUID(), conversation_id: group, sender_id: user }),
  new_thread: (_group, user) => ({ thread_id: randomUUID(), author_id: user }),
  new_reply: (_group, user) => ({ reply_id: randomUUID(), author_id: user }),
  media_uploaded: (_group, user) => ({ author_id: user }),
  new_annotation: (_group, user) => ({ annotation_id: randomUUID(), author_id: user }),
  new_record: (group, user) => ({ record_id: randomUUID(), group_id: group, author_id: user }),
  new_keys: (group, user) => ({ keys_id: randomUUID(), group_id: group, sender_id: user }),
};

const sha256 = (text) => toBase64Url(hash(utf8(text)));
const randomUUID = () => crypto.randomUUID();

/** Number and chain events as the server would: a liar does it well. */
export function chained(group, events) {
  let prev = sha256(group);
  return events.map(({ type, data }, at) => {
    const frame = { type, data, group_id: group, seq: at + 1, prev };
    const text = JSON.stringify(frame);
    prev = sha256(text);
    return { ...frame, text, hash: prev };
  });
}

export class FakeRelay {
  now = 1_800_000_000_000;
  /** @type {Map<string, {members: Set<string>, log: any[], epoch: number, answered: Map<string, {body: string, seq: number}>}>} */
  groups = new Map();
  directory = new Map();
  claims = 0;
  lastResorts = 0;
  /** Replaced by tests that lie or fail. */
  hooks = { bundle: (bundle) => bundle, devices: (list) => list, posted: () => {}, post: () => {} };
  members = [];

  newGroup(founder, group = randomUUID()) {
    this.groups.set(group, { members: new Set(), log: [], epoch: 0, answered: new Map() });
    this.join(group, founder);
    return group;
  }

  append(group, type, data) {
    const state = this.groups.get(group);
    state.log = this.#extend(group, state.log, type, data);
    const { seq } = state.log.at(-1);
    if (EPOCH_EVENTS.has(type)) state.epoch = seq;
    return seq;
  }

  #extend(group, log, type, data) {
    const frame = { type, data, group_id: group, seq: log.length + 1, prev: log.at(-1)?.hash ?? sha256(group) };
    const text = JSON.stringify(frame);
    return [...log, { ...frame, text, hash: sha256(text) }];
  }

  join(group, user) {
    this.groups.get(group).members.add(user);
    return this.append(group, 'member_joined', { group_id: group, user_id: user });
  }

  leave(group, user) {
    this.groups.get(group).members.delete(user);
    return this.append(group, 'member_left', { group_id: group, user_id: user, reason: 'removed' });
  }

  /** The transport of one device. */
  port(user, device, getMember) {
    return {
      post: async (group, type, body, { key, ifEpoch }) => {
        this.hooks.post({ user, device, group, type });
        const state = this.groups.get(group);
        const text = JSON.stringify([type, body]);
        const known = state.answered.get(`${user}/${key}`);
        if (known && known.body !== text) throw new E2eeError('conflict', 'another body under this key');
        if (known) return { seq: known.seq };
        if (!state.members.has(user)) throw new Error('FORBIDDEN');
        if (ifEpoch !== undefined && state.epoch > ifEpoch)
          throw new E2eeError('epoch_changed', 'the group changed', { epoch: state.epoch });
        const seq = this.append(group, type, { ...FIELDS[type](group, user), ...body });
        state.answered.set(`${user}/${key}`, { body: text, seq });
        await this.hooks.posted({ user, device, group, type, seq });
        return { seq };
      },
      claim: async (_group, devices) =>
        devices.map(({ user: whose, device: number, suite }) => {
          this.claims++;
          const keys = this.directory.get(`${whose}/${number}`);
          if (!keys) return { user: whose, device: number, suite, identity: new Uint8Array(33) };
          const oneTime = keys.hpkePreKeys.shift();
          if (!oneTime) this.lastResorts++;
          const kyber = keys.kyberPreKeys?.shift() ?? keys.kyberPreKey;
          const libsignal = {
            registrationId: keys.registrationId,
            signedPreKey: keys.signedPreKey,
            kyberPreKey: kyber,
            preKey: keys.preKeys?.shift(),
          };
          const hpke = { hpkePreKey: oneTime ?? keys.hpkePreKey, lastResort: !oneTime };
          return this.hooks.bundle({ user: whose, device: number, suite, identity: keys.identity, ...(suite === 16 ? hpke : libsignal) });
        }),
      putKeys: async (body) => {
        const known = this.directory.get(`${user}/${body.device}`);
        const fresh = !known || toHex(known.identity) !== toHex(body.identity);
        const stock = (name) => [...((!fresh && known[name]) || []), ...(body[name] ?? [])];
        const lists = { hpkePreKeys: stock('hpkePreKeys'), preKeys: stock('preKeys'), kyberPreKeys: stock('kyberPreKeys') };
        this.directory.set(`${user}/${body.device}`, { ...(fresh ? {} : known), ...body, ...lists });
        if (fresh)
          for (const [group, state] of this.groups)
            if (state.members.has(user))
              this.append(group, 'identity_changed', {
                user_id: user,
                device_id: body.device,
                change: known ? 'identity' : 'added',
                identity_key: toBase64(body.identity),
              });
        return { device: body.device };
      },
      devices: async (group) => {
        const { members } = this.groups.get(group);
        const list = [...this.directory].map(([name, keys]) => ({
          user: name.split('/')[0],
          device: Number(name.split('/')[1]),
          identity: keys.identity,
          suites: keys.suites,
          seenAt: this.now,
        }));
        return this.hooks.devices(list.filter((one) => members.has(one.user)));
      },
      catchUp: (group) => this.deliver(getMember(), group),
    };
  }

  /** A device with a store of its own (or a given one) that publishes its keys. */
  async device(user, device = 1, { store = memoryStore(), ratchet = hpkeRatchet(store), publish = true, ...options } = {}) {
    const member = new Member({
      store,
      ratchet,
      relay: this.port(user, device, () => member),
      user,
      device,
      now: () => this.now,
      ...options,
    });
    member.store = store;
    this.members.push(member);
    if (publish) await member.publishKeys(4);
    return member;
  }

  /** Give a member every event of a group that it does not have; nothing is given to one that is not a member any more. */
  async deliver(member, group, log = this.groups.get(group).log) {
    const { position } = await member.group(group);
    for (const event of log.slice(position.seq)) {
      await member.receive(event);
      if (event.type === 'member_left' && event.data.user_id === member.me.user) return;
    }
  }

  /** Deliver and flush until nothing moves any more. */
  async waitIdle(group, members = this.members) {
    for (let round = 0, before = -1; round < 20; round++) {
      for (const member of members) {
        if (!this.groups.get(group).members.has(member.me.user)) continue;
        await this.deliver(member, group);
        await member.flush(group);
      }
      const { length } = this.groups.get(group).log;
      const behind = await Promise.all(
        members
          .filter((one) => this.groups.get(group).members.has(one.me.user))
          .map(async (one) => (await one.group(group)).position.seq < length),
      );
      if (length === before && !behind.includes(true)) return;
      before = length;
    }
    throw new Error('the group does not settle');
  }
}

/** A group of the first device with every other one in it by its invite. */
export async function newFamily(relay, [founder, ...others], options = {}) {
  const group = relay.newGroup(founder.me.user);
  await founder.found(group, options);
  await relay.waitIdle(group, [founder]);
  for (const other of others) await enter(relay, group, founder, other);
  await relay.waitIdle(group, [founder, ...others]);
  return group;
}

/** A person comes in by an invite. */
export async function enter(relay, group, inviter, member) {
  const { text, secretNumber } = await inviter.invite(group);
  if (!relay.groups.get(group).members.has(member.me.user)) relay.join(group, member.me.user);
  await member.join(group, readInvite(text), { inviter: inviter.me.user, secretNumber });
  await relay.deliver(member, group);
  await member.flush(group);
}

export const say = async (member, group, text) => {
  await member.draft(group, 'new_message', [{ field: 'encrypted_envelope', kind: 1, body: utf8(text) }]);
  await member.flush(group);
};

export const reply = async (member, group, thread, text) => {
  const context = uuidBytes(thread);
  await member.draft(group, 'new_reply', [{ field: 'encrypted_body', kind: 4, context, body: utf8(text) }], { thread_id: thread });
  await member.flush(group);
};

/** What a member reads, in order; what it cannot read stands as its status. */
export const texts = async (member, group) =>
  (await member.items(group)).map(({ status, parts }) =>
    status === 'read' ? parts.map(({ body }) => new TextDecoder().decode(body)).join('|') : `[${status}]`,
  );

export const codes = async (member, group) => (await member.warnings(group)).map(({ code }) => code);
