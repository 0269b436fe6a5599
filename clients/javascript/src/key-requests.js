/** Requests about devices and their public keys, envelopes with keys, the records of groups, and mailboxes for linking. Bytes are base64. */
import { readJson } from './http.js';
import { Requests } from './requests.js';
import { uuid } from './uuid.js';

/** @import {Bundle, Device, KeyMessageBody, KeysBody, KeysPosted, KeysStored, Mailbox, OwnKeys, RecordBody, RecordCreated, RosterRecord, WantedDevice} from './api-types.js' */
/** @import {PostOptions} from './requests.js' */
/** @import {NewKeysEvent} from './wire.js' */

const id = encodeURIComponent;
/** @param {Device} device A number belongs to its user. */
const nameOf = ({ user_id, device_id }) => `${user_id}/${device_id}`;

/** The requests of clients that encrypt. The server checks sizes and first bytes alone, and so does nothing here look into a key. */
export class KeyRequests extends Requests {
  /**
   * Publish the public keys of one of the caller's devices: the fixed ones replace those before, the lists add to the stocks.
   *
   * @param {KeysBody} body
   * @param {PostOptions} [options]
   * @returns {Promise<KeysStored>}
   */
  publishKeys(body, options) {
    return this.json('PUT', '/v1/keys', 'device_id', body, { ...options, key: options?.key ?? uuid() });
  }

  /**
   * Claim keys for devices of a group's members, in the order asked for. A device that is missing there, or lacks the suite, has no bundle.
   *
   * @param {string} groupId
   * @param {WantedDevice[]} devices Up to 200.
   * @param {PostOptions} [options] With the same `key` a retry gets the same one-time keys.
   * @returns {Promise<Bundle[]>}
   */
  async claimKeys(groupId, devices, options) {
    return (await this.once('/v1/keys/claims', 'bundles', { group_id: groupId, devices }, options)).bundles;
  }

  /**
   * All devices of a group's members; nothing is taken from their stocks.
   *
   * @param {string} groupId
   * @returns {Promise<Device[]>}
   * @throws {import('./errors.js').OrbitalError} `TOO_LARGE` above 100,000.
   */
  devices(groupId) {
    return this.collect(this.eachDevice(groupId), 'the list of devices');
  }

  /** The same, one after the other, read page by page. @param {string} groupId @returns {AsyncGenerator<Device, void, undefined>} */
  eachDevice(groupId) {
    return this.each('/v1/keys/devices', 'devices', nameOf, { group_id: groupId });
  }

  /** How many one-time keys each of the caller's devices offers. @returns {Promise<OwnKeys[]>} */
  async keyCounts() {
    return (await this.get('/v1/keys/count', 'devices')).devices;
  }

  /** Remove one of the caller's devices with all of its keys. @param {number} deviceId @returns {Promise<void>} */
  async removeDevice(deviceId) {
    await this.json('DELETE', `/v1/keys/${id(deviceId)}`);
  }

  /**
   * Post an envelope with keys for devices of a group.
   *
   * @param {KeyMessageBody} body
   * @param {PostOptions} [options]
   * @returns {Promise<KeysPosted>}
   * @throws {import('./errors.js').OrbitalError} `EPOCH_CHANGED` with `details.epoch` when the group's epoch is above `if_epoch`.
   */
  postKeys(body, options) {
    return this.once('/v1/key-messages', 'keys_id', body, options);
  }

  /**
   * A page of a group's `new_keys` events, oldest first: also those before the first event that the log still has.
   *
   * @param {{group_id: string, after_seq?: number, limit?: number}} query
   * @returns {Promise<{events: NewKeysEvent[], has_more: boolean}>}
   */
  keyMessages(query) {
    return this.get('/v1/key-messages', 'events', query);
  }

  /**
   * The same, one after the other, read page by page.
   *
   * @param {{group_id: string, after_seq?: number, limit?: number}} query
   * @returns {AsyncGenerator<NewKeysEvent, void, undefined>}
   */
  async *eachKeyMessage(query) {
    for (let after_seq = query.after_seq ?? 0; ; ) {
      const { events, has_more } = await this.keyMessages({ ...query, after_seq });
      yield* events;
      const last = events.at(-1);
      if (!has_more || !last) return;
      after_seq = last.seq;
    }
  }

  /**
   * Post a signed record of a group's roster; its number is the group's epoch from then on.
   *
   * @param {string} groupId
   * @param {RecordBody} body
   * @param {PostOptions} [options]
   * @returns {Promise<RecordCreated>}
   * @throws {import('./errors.js').OrbitalError} `EPOCH_CHANGED` as with `postKeys`.
   */
  postRecord(groupId, body, options) {
    return this.once(`/api/groups/${id(groupId)}/records`, 'record_id', body, options);
  }

  /**
   * All records of a group's roster, in the order of the log.
   *
   * @param {string} groupId
   * @returns {Promise<RosterRecord[]>}
   * @throws {import('./errors.js').OrbitalError} `TOO_LARGE` above 100,000.
   */
  records(groupId) {
    return this.collect(this.eachRecord(groupId), 'the list of records');
  }

  /** The same, one after the other, read page by page. @param {string} groupId @returns {AsyncGenerator<RosterRecord, void, undefined>} */
  eachRecord(groupId) {
    return this.each(`/api/groups/${id(groupId)}/records`, 'records', 'record_id');
  }

  // Linking a device

  /** Open a mailbox, for a new device that has no token yet; its name is the only key to it. @returns {Promise<Mailbox>} */
  openMailbox() {
    return this.json('POST', '/v1/provision', 'mailbox');
  }

  /**
   * Put the one message into a mailbox, from a device that has a token; the same message again changes nothing.
   *
   * @param {string} mailbox
   * @param {string} encryptedMessage Up to 64 KiB after decoding.
   * @returns {Promise<void>}
   * @throws {import('./errors.js').OrbitalError} `CONFLICT` when another message is in it, `NOT_FOUND` when it is gone.
   */
  async fillMailbox(mailbox, encryptedMessage) {
    await this.json('PUT', `/v1/provision/${id(mailbox)}`, undefined, { encrypted_message: encryptedMessage });
  }

  /**
   * Wait for the message of a mailbox; call it again when none came in time.
   *
   * @param {string} mailbox
   * @param {{wait?: number, signal?: AbortSignal}} [options] `wait`: 0 to 25 seconds, 25 when left out.
   * @returns {Promise<string | undefined>} Undefined when no message came in time.
   * @throws {import('./errors.js').OrbitalError} `NOT_FOUND` when the mailbox is gone.
   */
  readMailbox(mailbox, { wait, signal } = {}) {
    const query = wait === undefined ? '' : `?wait=${wait}`;
    return this.request('GET', `/v1/provision/${id(mailbox)}${query}`, { signal }, async (response) =>
      response.status === 204 ? undefined : (await readJson(response, 'encrypted_message')).encrypted_message,
    );
  }
}
