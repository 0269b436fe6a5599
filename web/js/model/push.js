/** Push messages to this browser: the server calls it while the page is hidden or closed. */

/** @import {Family} from './family.js' */
/** @import {Shelf} from './shelf.js' */

/** How often a visible page says that somebody is looking; the server trusts it for 90 s. */
const LOOKING_MS = 40_000;

/** @typedef {{start: string, end: string, time_zone: string}} Quiet */
/** @typedef {{groups: string[], threads: string[], quiet: Quiet | null}} Mute */

/** @returns {Mute} */
const nothingMuted = () => ({ groups: [], threads: [], quiet: null });

/** Whether this browser has push messages. */
export const hasPush = () => 'PushManager' in globalThis && 'Notification' in globalThis && 'serviceWorker' in navigator;

/** The push messages of one member on this device. */
export class Push {
  /** @type {string | undefined} Of the server's subscription; undefined while this device is not called. */
  #id;
  #family;
  #shelf;
  #worker;
  #visible;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #timer;

  /**
   * @param {Family} family
   * @param {Shelf} shelf Whether push messages are on, and what is muted.
   * @param {{worker: () => Promise<ServiceWorkerRegistration>, visible: () => boolean}} around
   */
  constructor(family, shelf, { worker, visible }) {
    this.#family = family;
    this.#shelf = shelf;
    this.#worker = worker;
    this.#visible = visible;
  }

  /** Whether the server calls this device. */
  get on() {
    return this.#id !== undefined;
  }

  /** @returns {Mute} */
  get mute() {
    return { ...nothingMuted(), ...this.#shelf.read()?.mute };
  }

  /** Whether the member was asked before. */
  get asked() {
    return this.#shelf.read()?.on !== undefined;
  }

  /** The member does not want to be asked again. */
  decline() {
    this.#shelf.write({ on: false, mute: this.mute });
    this.#family.changed();
  }

  /** Subscribe again at each start: endpoints change. */
  async start() {
    if (this.#shelf.read()?.on && hasPush() && Notification.permission === 'granted') await this.#subscribe();
  }

  /** Subscribe this device; the permission was granted. */
  async turnOn() {
    this.#shelf.write({ on: true, mute: this.mute });
    await this.#subscribe();
  }

  /** End the subscription, at the server and in the browser. */
  async turnOff() {
    const id = this.#id;
    this.#shelf.write({ on: false, mute: this.mute });
    await this.leave();
    if (id) await this.#family.api.unsubscribePush(id).catch(() => {});
    this.#family.changed();
  }

  /** End the subscription in the browser; the server's ends with the login. */
  async leave() {
    this.stop();
    this.#id = undefined;
    const found = hasPush() ? await (await this.#worker()).pushManager.getSubscription() : null;
    await found?.unsubscribe();
  }

  /** @param {Partial<Mute>} change */
  async change(change) {
    this.#shelf.write({ ...this.#shelf.read(), mute: { ...this.mute, ...change } });
    if (this.on) await this.#subscribe();
    this.#family.changed();
  }

  /** @param {'groups' | 'threads'} what @param {string} id @param {boolean} muted */
  toggle(what, id, muted) {
    const others = this.mute[what].filter((one) => one !== id);
    return this.change({ [what]: muted ? [...others, id] : others });
  }

  async #subscribe() {
    const { pushManager } = await this.#worker();
    const { api } = this.#family;
    const options = { userVisibleOnly: true, applicationServerKey: await api.pushKey() };
    let found;
    try {
      found = await pushManager.subscribe(options);
    } catch (cause) {
      if (/** @type {any} */ (cause).name !== 'InvalidStateError') throw cause;
      // The subscription is of another key: this address has a new server.
      await (await pushManager.getSubscription())?.unsubscribe();
      found = await pushManager.subscribe(options);
    }
    const { endpoint = '', keys } = found.toJSON();
    const body = { endpoint, keys: { p256dh: keys?.p256dh ?? '', auth: keys?.auth ?? '' }, mute: this.mute };
    this.#id = (await api.subscribePush(body)).subscription_id;
    clearInterval(this.#timer);
    this.#timer = setInterval(() => this.#visible() && this.report(), LOOKING_MS);
    await this.report();
    this.#family.changed();
  }

  /** Report what has arrived, and whether somebody is looking. Called whenever the page is shown or hidden. */
  async report() {
    if (!this.#id) return;
    const known = [...this.#family.groups.values()].map(({ id, subscription }) => [id, subscription?.position?.seq ?? 0]);
    const seqs = Object.fromEntries(known.slice(0, 200));
    await this.#family.api.pushSeen(this.#id, { looking: this.#visible(), seqs }).catch(() => {});
  }

  /** Close the notifications of threads that were read, here or in another tab. */
  async clearRead() {
    if (!hasPush() || !this.#family.caughtUp) return;
    for (const shown of await (await this.#worker()).getNotifications()) {
      if (shown.tag && !this.#family.reads.unread(shown.tag)) shown.close();
    }
  }

  stop() {
    clearInterval(this.#timer);
  }
}
