// SPDX-License-Identifier: AGPL-3.0-only
/** A device of a person: its folder with account, key and encrypted store, and the clients that are opened from it. */
import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { OrbitalClient } from '../../../clients/javascript/src/all.js';
import { CipherClient } from '../../../clients/e2ee/src/cipher-client.js';
import { DeviceLink, sdkMailboxes } from '../../../clients/e2ee/src/linking.js';
import { signalRatchet, signalStore } from '../../../clients/signal/src/index.js';
import { Mistake } from './mistake.js';
import { Session } from './session.js';

/** @typedef {{server: string, name: string, user: string, token: string, groups: Record<string, string>}} Account `groups`: a person's names of groups, and their ids. */

/** @param {string} home @returns {Account} */
function readAccount(home) {
  try {
    return JSON.parse(readFileSync(join(home, 'account.json'), 'utf8'));
  } catch (error) {
    if (/** @type {NodeJS.ErrnoException} */ (error).code !== 'ENOENT') throw error;
    throw new Mistake(`There is no account in ${home}. Make one with "signup NAME", or log in with "login NAME".`);
  }
}

/** @param {string} home @param {Account} account */
const writeAccount = (home, account) => writeFileSync(join(home, 'account.json'), `${JSON.stringify(account, null, 2)}\n`, { mode: 0o600 });

/**
 * Make an account on a server, or log in to one, and keep its token in a folder.
 *
 * @param {string} home
 * @param {{server: string, name: string, password: string, exists: boolean}} options `exists`: log in.
 * @returns {Promise<Account>}
 */
export async function enrol(home, { server, name, password, exists }) {
  mkdirSync(home, { recursive: true, mode: 0o700 });
  const { api } = new OrbitalClient(server);
  const { user_id: user, token } = exists
    ? await api.login({ username: name, password })
    : await api.signup({ username: name, password, public_key: {} });
  /** @type {Record<string, string>} */
  let groups = {};
  try {
    const known = readAccount(home);
    if (known.user !== user) throw new Mistake(`${home} belongs to ${known.name}: choose another folder with --home.`);
    groups = known.groups;
  } catch (error) {
    if (!(error instanceof Mistake) || error.message.includes('belongs to')) throw error;
  }
  const account = { server, name, user, token, groups };
  writeAccount(home, account);
  return account;
}

/**
 * The key of the store: 32 random bytes in a file that its owner alone can read. A program with windows keeps it in the keychain instead
 * (Electron's `safeStorage`).
 *
 * @param {string} home
 */
function storeKey(home) {
  const path = join(home, 'store.key');
  try {
    return new Uint8Array(readFileSync(path));
  } catch (error) {
    if (/** @type {NodeJS.ErrnoException} */ (error).code !== 'ENOENT') throw error;
    const key = new Uint8Array(randomBytes(32));
    writeFileSync(path, key, { mode: 0o600, flag: 'wx' });
    return key;
  }
}

/** An open device. */
export class Home {
  #store;
  /** @type {Session[]} */
  #sessions = [];

  /** @param {string} home @param {Account} account @param {ReturnType<typeof signalStore>} store @param {OrbitalClient} sdk @param {CipherClient} client */
  constructor(home, account, store, sdk, client) {
    this.folder = home;
    this.account = account;
    this.#store = store;
    this.sdk = sdk;
    this.client = client;
    this.link = new DeviceLink(client.device, sdkMailboxes(sdk));
  }

  /** Open the device of a folder; the first time it makes its keys and publishes them. @param {string} folder @returns {Promise<Home>} */
  static async open(folder) {
    const account = readAccount(folder);
    const store = signalStore(join(folder, 'store.db'), storeKey(folder));
    const sdk = new OrbitalClient(account.server, { token: account.token, verify: true });
    try {
      const client = await CipherClient.open(sdk, { store, user: account.user, ratchet: signalRatchet() });
      const home = new Home(folder, account, store, sdk, client);
      // What a kill interrupted is finished first.
      await home.link.resume();
      return home;
    } catch (error) {
      sdk.close();
      await store.close();
      throw error;
    }
  }

  /** @param {string} name @param {string} group Remember a group under a name. */
  name(name, group) {
    const taken = this.account.groups[name];
    if (taken && taken !== group) throw new Mistake(`You have a group named ${name} already: choose another name.`);
    this.account.groups[name] = group;
    writeAccount(this.folder, this.account);
  }

  /** @param {string} name @returns {string} A group's id. */
  groupNamed(name) {
    const group = this.account.groups[name];
    if (group) return group;
    const names = Object.keys(this.account.groups);
    throw new Mistake(
      `You have no group named ${name}. ${names.length ? `You have: ${names.join(', ')}.` : 'Make one with "group NAME", or join one.'}`,
    );
  }

  /** Make a group and found its encryption. @param {string} name @returns {Promise<Session>} */
  async found(name) {
    if (this.account.groups[name]) throw new Mistake(`You have a group named ${name} already: choose another name.`);
    // The names of groups stay on each person's own device; the server's fields for them hold nothing.
    const { group_id: group } = await this.sdk.api.createGroup({ encrypted_name: 'AA==', encrypted_group_key: 'AA==' });
    this.name(name, group);
    await this.client.found(group);
    return this.enter(name);
  }

  /** Join by an invitation: the server's code and the secret of the encryption. @param {string} invitation @param {string} name @returns {Promise<Session>} */
  async join(invitation, name) {
    const [code, secret, number = '0'] = invitation.trim().split('.');
    if (!code || !secret || !/^\d+$/.test(number))
      throw new Mistake('An invitation looks like CODE.SECRET: copy all of what "invite" prints.');
    const { group_id: group } = await this.sdk.api.joinGroup({ invite_code: code, encrypted_group_key: 'AA==' });
    this.name(name, group);
    return this.enter(name, { invite: secret, secretNumber: Number(number) });
  }

  /** @param {string} name @param {{invite?: string, secretNumber?: number}} [options] @returns {Promise<Session>} */
  async enter(name, options) {
    const group = this.groupNamed(name);
    const session = new Session(this, name, await this.client.group(group, options));
    this.#sessions.push(session);
    return session;
  }

  /** Everything that was written stays in the store. */
  async close() {
    await Promise.all(this.#sessions.map((session) => session.close()));
    await this.client.close();
    this.sdk.close();
    await this.#store.close();
  }
}
