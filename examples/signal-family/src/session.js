// SPDX-License-Identifier: AGPL-3.0-only
/** A group in use: what a person does in it, and what the person reads. */
import { readFile, writeFile } from 'node:fs/promises';
import { basename, extname } from 'node:path';
import { readMediaInfo, spaced } from '../../../clients/e2ee/src/index.js';
import { Mistake } from './mistake.js';

/** @import { GroupCipher } from '../../../clients/e2ee/src/cipher-client.js' */
/** @import { Home } from './home.js' */

/** @typedef {Awaited<ReturnType<Home['client']['device']['items']>>[number]} Item */

const TYPES = { '.jpg': 'image/jpeg', '.jpeg': 'image/jpeg', '.png': 'image/png', '.gif': 'image/gif', '.webp': 'image/webp' };
const LOOK_MS = 50;
/** How long the server may take, in milliseconds: a slow machine is not a failure. */
const PATIENCE_MS = 120_000;
const decoder = new TextDecoder();

/**
 * Wait until something is true.
 *
 * @param {() => unknown} fact
 * @param {string} what For the sentence when it does not come.
 */
export async function waitFor(fact, what) {
  const until = Date.now() + PATIENCE_MS;
  while (!(await fact())) {
    if (Date.now() > until) throw new Mistake(`This did not happen within two minutes: ${what}. Is the server running?`);
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
}

export class Session {
  #home;
  /** @type {Map<string, string>} */
  #names = new Map();
  #reading;
  /** @type {unknown} Why reading ended. */
  #failed;
  /** Called when something new can be read. */
  onNews = () => {};

  /** @param {Home} home @param {string} name @param {GroupCipher} group */
  constructor(home, name, group) {
    this.#home = home;
    this.name = name;
    this.group = group;
    this.#reading = this.#read();
  }

  async #read() {
    try {
      for await (const _ of this.group.messages()) this.onNews();
    } catch (error) {
      this.#failed = error;
      this.onNews();
    }
  }

  get #device() {
    return this.#home.client.device;
  }

  get id() {
    return this.group.groupId;
  }

  // Writing

  /** @param {string} text */
  say(text) {
    return this.#send(this.group.send(text));
  }

  /** @param {string} title @param {string} body */
  openThread(title, body) {
    return this.#send(this.group.openThread(title, body));
  }

  /** @param {number} number Of the thread, as the transcript numbers it. @param {string} text */
  async reply(number, text) {
    return this.#send(this.group.reply(await this.threadId(number), text));
  }

  /** @param {number} number Of the thread. @param {string} path @param {(line: string) => void} [print] Gets the progress. */
  async photo(number, path, print = () => {}) {
    const thread = await this.threadId(number);
    const data = await readFile(path).catch((error) => {
      throw new Mistake(`${path} cannot be read (${error.code}).`);
    });
    const type = /** @type {Record<string, string>} */ (TYPES)[extname(path).toLowerCase()] ?? 'application/octet-stream';
    print(`Sending ${basename(path)}, ${data.length} bytes …`);
    await this.#send(this.group.sendFile(thread, new Blob([data], { type }), { name: basename(path), type }));
    print('Sent.');
  }

  /** Wait until the server has what was written and it came back. @param {Promise<unknown>} sending */
  async #send(sending) {
    await sending;
    await waitFor(async () => {
      if (this.#failed) throw this.#failed;
      return (await this.#device.pending(this.id)) === 0;
    }, 'the server has the message');
  }

  /** @param {number} number Of the thread. */
  async typing(number) {
    this.#home.sdk.typing(await this.threadId(number));
  }

  /** @param {(name: string) => void} print @returns {() => void} Ends it. */
  onTyping(print) {
    return this.#home.sdk.on('typing_indicator', async ({ thread_id, username, is_typing }) => {
      const here = (await this.items()).some(({ type, data }) => type === 'new_thread' && data.thread_id === thread_id);
      if (here && is_typing) print(username);
    });
  }

  // Reading

  /** @returns {Promise<Item[]>} What can be shown, in the order of the log. */
  async items() {
    if (this.#failed) throw this.#failed;
    return this.#device.items(this.id);
  }

  /** @param {number} number @returns {Promise<string>} */
  async threadId(number) {
    const threads = (await this.items()).filter(({ type }) => type === 'new_thread');
    const found = threads[number - 1];
    if (!found) throw new Mistake(`There is no thread ${number}: this group has ${threads.length}.`);
    return String(found.data.thread_id);
  }

  /** @returns {Promise<string[]>} A line for each item. */
  async transcript() {
    /** @type {Map<unknown, number>} */
    const threads = new Map();
    const lines = [];
    for (const item of await this.items()) {
      if (item.type === 'new_thread') threads.set(item.data.thread_id, threads.size + 1);
      lines.push(`${await this.nameOf(item.author)}${this.#said(item, threads.get(item.data.thread_id))}`);
    }
    return lines;
  }

  /** @param {Item} item @param {number} [thread] Its number. */
  #said({ type, status, parts: [first, second] }, thread) {
    if (status !== 'read' || !first) return ` wrote something that this device cannot read (${status})`;
    const text = decoder.decode(first.body);
    switch (type) {
      case 'new_thread':
        return ` opened thread ${thread} "${text}": ${second ? decoder.decode(second.body) : ''}`;
      case 'new_reply':
        return `, in thread ${thread}: ${text}`;
      case 'media_uploaded':
        return ` sent ${readMediaInfo(first.body).name} to thread ${thread}`;
      default:
        return `: ${text}`;
    }
  }

  /** Save the newest photo. @param {string} path @returns {Promise<string>} The name that its sender gave it. */
  async save(path) {
    const photos = (await this.items()).filter(({ type, status }) => type === 'media_uploaded' && status === 'read');
    const newest = photos.at(-1);
    if (!newest) throw new Mistake('Nobody has sent a photo to this group yet.');
    const { info, blob } = await this.group.fetchFile(newest);
    await writeFile(path, new Uint8Array(await blob.arrayBuffer()));
    return info.name;
  }

  /** Wait until everything is read that the server has. */
  async caughtUp() {
    await waitFor(async () => {
      if (this.#failed) throw this.#failed;
      const { position } = await this.#device.group(this.id);
      const { texts } = await this.#home.sdk.api.eventPage({ group_id: this.id, after_seq: position.seq, limit: 1 });
      return texts.length === 0;
    }, 'this device has read what the server has');
  }

  // People

  /** @returns {Promise<{name: string, user: string, devices: number}[]>} */
  async people() {
    const members = await this.#home.sdk.api.members(this.id);
    const { devices } = await this.#device.roster(this.id);
    return members.map(({ user_id: user, username: name }) => ({
      ...{ name, user, devices: devices.filter((one) => one.user === user).length },
    }));
  }

  /** @param {string} user @returns {Promise<string>} */
  async nameOf(user) {
    if (!this.#names.has(user))
      for (const { user_id, username } of await this.#home.sdk.api.members(this.id)) this.#names.set(user_id, username);
    return this.#names.get(user) ?? `${user.slice(0, 8)} (not a member any more)`;
  }

  /** @param {string} name @returns {Promise<string>} A user id. */
  async userNamed(name) {
    const people = await this.people();
    const found = people.find((one) => one.name === name);
    if (found) return found.user;
    throw new Mistake(`${name} is not in this group. Its members are ${people.map((one) => one.name).join(', ')}.`);
  }

  /** @param {string} name @returns {Promise<string>} Sixty digits to compare, by telephone for instance. */
  async safetyNumber(name) {
    return spaced((await this.#device.safetyNumber(this.id, await this.userNamed(name))).digits);
  }

  /** The digits were compared. @param {string} name */
  async verify(name) {
    await this.#device.verify(await this.userNamed(name));
  }

  /** Wait until a person may read here. @param {string} name @param {number} [devices] */
  async admitted(name, devices = 1) {
    await waitFor(
      async () => (await this.people()).some((one) => one.name === name && one.devices >= devices),
      `${name} is admitted to ${this.name}`,
    );
  }

  /** Wait until this device itself may read here. */
  admittedHere() {
    const { user, device } = this.#device.me;
    return waitFor(
      async () => (await this.#device.roster(this.id)).devices.some((one) => one.user === user && one.device === device),
      `this device is admitted to ${this.name}`,
    );
  }

  /** @returns {Promise<string>} What another person needs for `join`; it is as secret as a key. */
  async invitation() {
    const { invite_code: code } = await this.#home.sdk.api.newInviteCode(this.id);
    const { text, secretNumber } = await this.#device.invite(this.id);
    return `${code}.${text}${secretNumber ? `.${secretNumber}` : ''}`;
  }

  /** @returns {Promise<string[]>} What this device was warned of. */
  async warnings() {
    return (await this.#device.warnings(this.id)).map(({ code, seq }) => `${code} at event ${seq}`);
  }

  async close() {
    await this.group.close();
    await this.#reading;
  }
}
