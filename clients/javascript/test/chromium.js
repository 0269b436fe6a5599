/**
 * A real Chromium, driven by the DevTools protocol itself: the available drivers make every tab act as if it is shown, and these tests are
 * about tabs that are not.
 */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import WebSocket from 'ws';
import { record } from '../../../tests/support/record_frames.mjs';

const PATHS = [process.env.ORBITAL_CHROMIUM, '/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];
const path = PATHS.find((one) => one && existsSync(one));

/** Why no browser can be tried, for `skip`; false when one can. */
export const missing = path ? false : 'no Chromium; apt-get install chromium, or set ORBITAL_CHROMIUM';
if (missing && process.env.ORBITAL_TESTS_COMPLETE === '1') throw new Error(missing);

export class Chromium {
  #id = 0;
  #answers = new Map();
  #listeners = new Map();

  static async open() {
    const browser = new Chromium();
    browser.folder = await mkdtemp(join(tmpdir(), 'orbital-chromium-'));
    const flags = [
      '--headless=new',
      '--no-sandbox',
      '--disable-gpu',
      '--no-first-run',
      '--remote-debugging-port=0',
      `--user-data-dir=${browser.folder}`,
    ];
    browser.process = spawn(path, [...flags, 'about:blank'], { stdio: ['ignore', 'ignore', 'pipe'] });
    const address = await new Promise((resolve, reject) => {
      createInterface({ input: browser.process.stderr }).on('line', (line) => resolve0(/DevTools listening on (ws:\S+)/.exec(line)?.[1]));
      const resolve0 = (found) => found && resolve(found);
      browser.process.on('exit', () => reject(new Error('Chromium ended before it listened')));
    });
    browser.socket = new WebSocket(address, { perMessageDeflate: false });
    await new Promise((resolve, reject) => browser.socket.on('open', resolve).on('error', reject));
    browser.socket.on('message', (text) => browser.#received(JSON.parse(text.toString())));
    return browser;
  }

  #received({ id, result, error, method, params, sessionId }) {
    if (id) {
      const { resolve, reject } = this.#answers.get(id);
      this.#answers.delete(id);
      if (error) reject(new Error(error.message));
      else resolve(result);
    } else this.#listeners.get(sessionId)?.(method, params);
  }

  /** @returns {Promise<any>} */
  send(method, params = {}, sessionId) {
    const id = ++this.#id;
    this.socket.send(JSON.stringify({ id, method, params, ...(sessionId && { sessionId }) }));
    return new Promise((resolve, reject) => this.#answers.set(id, { resolve, reject }));
  }

  /** A new tab in the one window, in front of the others. */
  async tab(url = 'about:blank') {
    const { targetId } = await this.send('Target.createTarget', { url });
    const { sessionId } = await this.send('Target.attachToTarget', { targetId, flatten: true });
    const tab = new Tab(this, targetId, sessionId);
    this.#listeners.set(sessionId, (method, params) => tab.received(method, params));
    await tab.send('Page.enable');
    await tab.send('Runtime.enable');
    await tab.send('Network.enable');
    return tab;
  }

  async close() {
    const ended = new Promise((resolve) => this.process.once('exit', resolve));
    this.send('Browser.close').catch(() => {});
    const timer = setTimeout(() => this.process.kill('SIGKILL'), 5000);
    await ended;
    clearTimeout(timer);
    await rm(this.folder, { recursive: true, force: true, maxRetries: 5 });
  }
}

class Tab {
  #bindings = new Map();
  #loaded = () => {};

  constructor(browser, targetId, sessionId) {
    Object.assign(this, { browser, targetId, sessionId });
    /** What the page said on its console as a warning or an error, and what it threw. */
    this.complaints = [];
  }

  send(method, params) {
    return this.browser.send(method, params, this.sessionId);
  }

  received(method, params) {
    if (method === 'Runtime.bindingCalled') void this.#called(params);
    else if (method === 'Page.loadEventFired') this.#loaded();
    else if (method === 'Network.webSocketFrameReceived') {
      const { opcode, payloadData } = params.response;
      if (opcode === 1) record(payloadData);
    } else if (method === 'Runtime.exceptionThrown')
      this.complaints.push(params.exceptionDetails.exception?.description ?? params.exceptionDetails.text);
  }

  /** Give the page a function `name` that calls `does` here, and a promise of what it gives. */
  async expose(name, does) {
    this.#bindings.set(name, does);
    await this.send('Runtime.addBinding', { name: `_${name}` });
    const source = `window.${name} = (...args) => new Promise((resolve) => {
      const id = (window._calls ??= [null]).push(resolve) - 1;
      window._${name}(JSON.stringify({ id, args }));
    });`;
    await this.send('Page.addScriptToEvaluateOnNewDocument', { source });
  }

  async #called({ name, payload, executionContextId }) {
    const { id, args } = JSON.parse(payload);
    const result = JSON.stringify((await this.#bindings.get(name.slice(1))(...args)) ?? null);
    // The page may be gone meanwhile.
    await this.send('Runtime.evaluate', { expression: `window._calls[${id}](${result})`, contextId: executionContextId }).catch(() => {});
  }

  async go(url) {
    const loaded = new Promise((resolve) => (this.#loaded = resolve));
    await this.send('Page.navigate', { url });
    await loaded;
  }

  /** Run a function in the page, with these arguments. */
  async run(does, ...args) {
    const expression = `(${does})(...${JSON.stringify(args)})`;
    const { result, exceptionDetails } = await this.send('Runtime.evaluate', { expression, awaitPromise: true, returnByValue: true });
    if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
    return result.value;
  }

  /** Bring it to the front; the tab that was there is hidden then. */
  show() {
    return this.browser.send('Target.activateTarget', { targetId: this.targetId });
  }

  offline(offline) {
    return this.send('Network.emulateNetworkConditions', { offline, latency: 0, downloadThroughput: -1, uploadThroughput: -1 });
  }
}
