/** Requests about push messages to this device. Loaded with the rest of the REST side. */
import { KeyRequests } from './key-requests.js';

/** @import {PushSubscriptionBody, PushSubscriptionStored, SeenBody} from './api-types.js' */

/** Subscriptions to push messages: the server calls a device whose page is closed. */
export class PushRequests extends KeyRequests {
  /** The server's public key, for `PushManager.subscribe` as its `applicationServerKey`. @returns {Promise<string>} */
  async pushKey() {
    return (await this.get('/api/push/key', 'public_key')).public_key;
  }

  /** Subscribe this device, or replace what is stored of its endpoint. Call it at every start. @param {PushSubscriptionBody} body @returns {Promise<PushSubscriptionStored>} */
  subscribePush(body) {
    return this.json('PUT', '/api/push/subscriptions', 'subscription_id', body);
  }

  /** @param {string} subscriptionId @returns {Promise<void>} */
  async unsubscribePush(subscriptionId) {
    await this.json('DELETE', `/api/push/subscriptions/${encodeURIComponent(subscriptionId)}`);
  }

  /** Report what the device has received, and whether somebody looks at it: a device that is looked at is not called. @param {string} subscriptionId @param {SeenBody} body @returns {Promise<void>} */
  async pushSeen(subscriptionId, body) {
    await this.json('POST', `/api/push/subscriptions/${encodeURIComponent(subscriptionId)}/seen`, undefined, body, { keepalive: true });
  }
}
