/** A real Chromium, and people in front of it. */
import { existsSync } from 'node:fs';
import { chromium } from 'playwright-core';
import { record } from '../support/record_frames.mjs';

const PLACES = [
  process.env.ORBITAL_CHROMIUM,
  '/usr/bin/chromium',
  '/usr/bin/chromium-browser',
  '/usr/bin/google-chrome',
  '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome',
];
const found = PLACES.find((path) => path && existsSync(path));

/** Why no browser can be started, for `skip`; false when one can. */
export const missing = found ? false : 'no Chromium here; apt-get install chromium, or set ORBITAL_CHROMIUM';
if (missing && process.env.ORBITAL_TESTS_COMPLETE === '1') throw new Error(missing);

/** How long a page may take for anything: playwright's own 30 s are too few for a machine that is busy with other tests. */
const PATIENCE_MS = 120_000;

/** Root may not use Chromium's sandbox. */
const args = process.getuid?.() === 0 ? ['--no-sandbox'] : [];

/** @param {string[]} [more] Arguments besides. */
export const launch = (more = []) => chromium.launch({ executablePath: /** @type {string} */ (found), args: [...args, ...more] });

/** @typedef {import('playwright-core').Browser} Browser */
/** @typedef {import('playwright-core').Page} Page */

/** Not an error of the page: the browser's own console line for a request without a server, whose server is killed in the middle of its response, or without an upload to resume. */
const EXPECTED =
  /^Failed to load resource: (net::ERR_(CONNECTION_REFUSED|EMPTY_RESPONSE|CONNECTION_RESET|CONTENT_LENGTH_MISMATCH|INTERNET_DISCONNECTED|NETWORK_CHANGED)|the server responded with a status of (401|404|409|503))|WebSocket connection to .* failed/;

/** A person with their own browser context. Errors of the page are collected. */
export class Person {
  /** @type {string[]} Errors, warnings and violations of the page's policy. */
  complaints = [];
  /** @type {Map<string, number>} Bytes of each thing that was loaded, as they came over the line. */
  loaded = new Map();

  /**
   * @param {Browser} browser
   * @param {string} name
   * @param {import('playwright-core').BrowserContextOptions} [options]
   */
  static async sitDown(browser, name, options = {}) {
    const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
    context.setDefaultTimeout(PATIENCE_MS);
    context.on('page', (page) => page.on('websocket', (socket) => socket.on('framereceived', ({ payload }) => record(payload))));
    const person = new Person(name, await context.newPage());
    await person.#watch();
    return person;
  }

  /** @param {string} name @param {Page} page */
  constructor(name, page) {
    this.name = name;
    this.page = page;
  }

  async #watch() {
    const { page, complaints, loaded } = this;
    page.on('pageerror', (error) => complaints.push(`${this.name}: ${error.stack}`));
    page.on('console', (message) => {
      const text = message.text();
      if (/error|warning/.test(message.type()) && !EXPECTED.test(text)) complaints.push(`${this.name}: ${text}`);
    });
    page.on('dialog', (dialog) => {
      complaints.push(`${this.name}: somebody's script ran: ${dialog.message()}`);
      void dialog.dismiss();
    });
    await page.exposeFunction('complain', (/** @type {string} */ text) => complaints.push(`${this.name}: ${text}`));
    await page.addInitScript(() => {
      const complain = /** @type {any} */ (globalThis).complain;
      document.addEventListener('securitypolicyviolation', ({ violatedDirective, blockedURI }) =>
        complain(`policy: ${violatedDirective} ${blockedURI}`),
      );
    });
    page.on('requestfinished', async (request) => {
      const { pathname } = new URL(request.url());
      if (/^\/(api|v1|health)\//.test(pathname) || request.url().startsWith('blob:')) return;
      const { responseBodySize, responseHeadersSize } = await request
        .sizes()
        .catch(() => ({ responseBodySize: 0, responseHeadersSize: 0 }));
      if (responseBodySize) loaded.set(pathname, responseBodySize + responseHeadersSize);
    });
  }

  get password() {
    return `Correct-Horse-7-${this.name}`;
  }

  /** @param {string} url */
  async signUp(url) {
    const { page } = this;
    await page.goto(url);
    const form = page.locator('.entry-card');
    if (await form.getByRole('button', { name: 'Log in', exact: true }).locator('visible=true').and(page.locator('.primary')).count())
      await form.getByRole('button', { name: 'Create an account' }).click();
    await page.getByLabel('Name').fill(this.name);
    await page.getByLabel('Password', { exact: true }).fill(this.password);
    await page.getByRole('button', { name: 'Create my account' }).click();
    await page.getByRole('button', { name: `Account of ${this.name}` }).waitFor();
  }

  /** With another browser. @param {string} url */
  async logIn(url) {
    const { page } = this;
    await page.goto(url);
    const change = page.locator('.entry-card').getByRole('button', { name: 'Log in', exact: true });
    if (await change.and(page.locator(':not(.primary)')).count()) await change.and(page.locator(':not(.primary)')).click();
    await page.getByLabel('Name').fill(this.name);
    await page.getByLabel('Password', { exact: true }).fill(this.password);
    await page.locator('.entry-card .primary').click();
    await page.getByRole('button', { name: `Account of ${this.name}` }).waitFor();
  }

  /** @param {string} group @param {{changing?: boolean}} [options] `changing`: with keys that change with every message. */
  async makeGroup(group, { changing = false } = {}) {
    const { page } = this;
    await page
      .getByRole('button', { name: /^(New|Create a) group$/ })
      .locator('visible=true')
      .first()
      .click();
    await page.getByRole('dialog').getByLabel('Name').fill(group);
    if (changing) await page.getByRole('dialog').getByLabel('Keys that change with every message').check();
    await page.getByRole('button', { name: 'Create the group' }).click();
    await page.getByRole('heading', { level: 1, name: group }).waitFor();
  }

  /** @returns {Promise<string>} A link that invites to the group. */
  async inviteLink() {
    const { page } = this;
    await page.getByRole('button', { name: 'Invite', exact: true }).click();
    const link = await page.locator('[data-invite]').inputValue();
    await page.keyboard.press('Escape');
    await page.getByRole('dialog').waitFor({ state: 'detached' });
    return link;
  }

  /** @param {string} title @param {string} body */
  async beginThread(title, body) {
    const { page } = this;
    await page.getByRole('link', { name: 'New thread' }).click();
    await page.getByLabel('Title').fill(title);
    await page.getByLabel('What is it about?').fill(body);
    await page.getByRole('button', { name: 'Create the thread' }).click();
  }

  /** @param {string} title */
  async openThread(title) {
    await this.page.getByRole('region', { name: 'Threads' }).getByRole('link', { name: title }).first().click();
    await this.page.getByRole('heading', { level: 2, name: title }).waitFor();
  }

  get composer() {
    return this.page.getByRole('textbox', { name: 'Your reply' });
  }

  /** @param {string} text */
  async reply(text) {
    await this.composer.fill(text);
    await this.composer.press('Enter');
  }

  /** @returns {Promise<string[]>} The words of every reply that is shown, in order, each with how it stands. */
  async talk() {
    return this.page.locator('.items > li.item').evaluateAll((items) =>
      items.map((item) => {
        const words = item.querySelector('.words')?.textContent ?? item.querySelector('figcaption')?.textContent?.split(' · ')[0] ?? '?';
        return item.classList.contains('waiting') ? `(waiting) ${words}` : words;
      }),
    );
  }

  /**
   * Wait until the talk is this, to the word.
   *
   * @param {string[]} expected
   * @param {number} [withinMs]
   */
  async sees(expected, withinMs = 120_000) {
    await until(
      async () => same(await this.talk(), expected),
      async () => `${this.name} sees ${JSON.stringify(await this.talk())}\nand not ${JSON.stringify(expected)}`,
      withinMs,
    );
  }

  /** @param {number} [withinMs] Until the page says that everything is here; a reconnection may have to wait for its turn. */
  async isConnected(withinMs = 90_000) {
    await this.page.locator('.pill.good').waitFor({ timeout: withinMs });
  }

  /** Close every dialog, the last one first. */
  async closesDialogs() {
    const dialogs = this.page.getByRole('dialog');
    for (let open = await dialogs.count(); open > 0; open--) {
      await this.page.keyboard.press('Escape');
      await until(
        async () => (await dialogs.count()) < open,
        () => 'the dialog stays open',
      );
    }
  }

  async close() {
    await this.page.context().close();
  }
}

/** @param {string[]} a @param {string[]} b */
const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);

/**
 * Wait for a fact.
 *
 * @param {() => Promise<unknown>} fact
 * @param {() => Promise<string> | string} otherwise What to say when it does not come.
 * @param {number} [withinMs]
 */
export async function until(fact, otherwise, withinMs = 120_000) {
  const deadline = Date.now() + withinMs;
  while (!(await fact())) {
    if (Date.now() > deadline) throw new Error(await otherwise());
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}

/**
 * Read something of an element while it is in the page: lists make an item again when it changes, and an element that was
 * replaced between finding and reading has neither style nor position.
 *
 * @template T
 * @param {import('playwright-core').Locator} locator
 * @param {(node: Element) => T} read It runs in the page.
 * @returns {Promise<T>}
 */
export async function inPage(locator, read) {
  for (;;) {
    const handle = /** @type {import('playwright-core').ElementHandle<Element>} */ (await locator.elementHandle());
    const value = await handle.evaluate(/** @type {(node: any) => any} */ (read));
    if (await handle.evaluate((node) => node.isConnected)) return value;
  }
}
