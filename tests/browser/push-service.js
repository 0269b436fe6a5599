/** A push service of the tests' own, and browsers that are subscribed to it: headless Chromium has no push service. */
import { createDecipheriv, createECDH, createHmac, randomBytes } from 'node:crypto';
import { createServer } from 'node:http';
import { until } from './chromium.js';

/** @typedef {import('./chromium.js').Person} Person */

const hmac = (/** @type {Buffer} */ key, /** @type {Buffer[]} */ ...parts) => {
  const mac = createHmac('sha256', key);
  for (const part of parts) mac.update(part);
  return mac.digest();
};

/** A browser's push subscription (RFC 8291). */
export class Device {
  #ecdh = createECDH('prime256v1');
  auth = randomBytes(16);
  p256dh = this.#ecdh.generateKeys();

  /** @param {Buffer} body @returns {any} The payload of an encrypted message. */
  open(body) {
    const [salt, sender, sealed] = [body.subarray(0, 16), body.subarray(21, 86), body.subarray(86)];
    const secret = hmac(
      hmac(this.auth, this.#ecdh.computeSecret(sender)),
      Buffer.from('WebPush: info\0'),
      this.p256dh,
      sender,
      Buffer.of(1),
    );
    const key = hmac(salt, secret);
    const contentKey = hmac(key, Buffer.from('Content-Encoding: aes128gcm\0\x01')).subarray(0, 16);
    const nonce = hmac(key, Buffer.from('Content-Encoding: nonce\0\x01')).subarray(0, 12);
    const cipher = createDecipheriv('aes-128-gcm', contentKey, nonce);
    cipher.setAuthTag(sealed.subarray(-16));
    const padded = Buffer.concat([cipher.update(sealed.subarray(0, -16)), cipher.final()]);
    return JSON.parse(padded.subarray(0, padded.lastIndexOf(2)).toString());
  }
}

/** A push service on loopback that accepts everything. */
export class PushService {
  /** @type {{path: string, body: Buffer}[]} */
  messages = [];
  #server = createServer((request, response) => {
    /** @type {Buffer[]} */
    const parts = [];
    request.on('data', (part) => parts.push(part));
    request.on('end', () => {
      this.messages.push({ path: request.url ?? '', body: Buffer.concat(parts) });
      response.writeHead(201).end();
    });
  });

  async start() {
    await new Promise((resolve) => this.#server.listen(0, '127.0.0.1', () => resolve(0)));
    return this;
  }

  /** @param {string} name */
  endpoint(name) {
    return `http://127.0.0.1:${/** @type {import('node:net').AddressInfo} */ (this.#server.address()).port}/push/${name}`;
  }

  async close() {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

/** A browser whose push manager subscribes at the tests' service; what arrives is delivered to its real service worker. */
export class CalledBrowser {
  device = new Device();
  /** @type {any[]} Payloads, decrypted, in the order of arrival. */
  payloads = [];

  /** @param {Person} person @param {PushService} service */
  constructor(person, service) {
    this.person = person;
    this.service = service;
  }

  /** Replace the push manager of the page, before it loads. */
  async prepare() {
    const { device, service, person } = this;
    const toJSON = {
      endpoint: service.endpoint(person.name),
      keys: { p256dh: device.p256dh.toString('base64url'), auth: device.auth.toString('base64url') },
    };
    await person.page.addInitScript((json) => {
      const subscription = { toJSON: () => json, unsubscribe: async () => true };
      const manager = /** @type {any} */ (globalThis).PushManager.prototype;
      manager.subscribe = async (/** @type {any} */ options) => {
        if (!options.userVisibleOnly || options.applicationServerKey.length !== 87) throw new Error('wrong options');
        return subscription;
      };
      manager.getSubscription = async () => subscription;
    }, toJSON);
    return this;
  }

  /** Wait for so many messages; return the payloads. @param {number} count */
  async called(count) {
    const mine = () => this.service.messages.filter(({ path }) => path === `/push/${this.person.name}`);
    await until(
      async () => mine().length >= count,
      () => `${this.person.name} was called ${mine().length} times, not ${count}`,
    );
    this.payloads = mine().map(({ body }) => this.device.open(body));
    return this.payloads;
  }

  /**
   * Close the page, so that the service worker is alone. The tab stays: its DevTools session delivers messages.
   *
   * @returns {Promise<(payload: any) => Promise<unknown>>} Delivers a payload as the browser does (DevTools protocol, domain ServiceWorker).
   */
  async leave() {
    const { page } = this.person;
    const session = await page.context().newCDPSession(page);
    const { origin } = new URL(page.url());
    /** @type {Promise<string>} */
    const found = new Promise((resolve) => {
      session.on('ServiceWorker.workerRegistrationUpdated', ({ registrations }) => {
        const live = registrations.find(({ isDeleted, scopeURL }) => !isDeleted && scopeURL.startsWith(origin));
        if (live) resolve(live.registrationId);
      });
    });
    await session.send('ServiceWorker.enable');
    const registrationId = await found;
    await page.goto('about:blank');
    return (payload) => session.send('ServiceWorker.deliverPushMessage', { origin, registrationId, data: JSON.stringify(payload) });
  }

  /** @returns {Promise<{title: string, body: string, tag: string, data: any}[]>} The notifications that the service worker shows. */
  async shown() {
    const [worker] = this.person.page.context().serviceWorkers();
    if (!worker) throw new Error('there is no service worker');
    return worker.evaluate(async () => {
      const shown = await /** @type {any} */ (globalThis).registration.getNotifications();
      return shown.map((/** @type {Notification} */ { title, body, tag, data }) => ({ title, body, tag, data }));
    });
  }

  /** Wait until this is what the notifications say. @param {string[][]} expected Title and body of each. */
  async shows(expected) {
    const now = async () => (await this.shown()).map(({ title, body }) => [title, body]);
    await until(
      async () => JSON.stringify(await now()) === JSON.stringify(expected),
      async () => `${this.person.name} is shown ${JSON.stringify(await now())}`,
    );
  }
}
