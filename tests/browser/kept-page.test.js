/** The page that a device keeps, in front of proxies and portals that answer in the server's place. */
import assert from 'node:assert/strict';
import { createServer, request as ask } from 'node:http';
import { after, before, test } from 'node:test';
import { missing as noChromium, launch, Person, until } from './chromium.js';
import { missing as noServer, Server } from './server.js';

/** @typedef {import('playwright-core').Browser} Browser */

const how = { skip: noServer || noChromium, timeout: 900_000 };

/** @type {Server} */
let server;
/** @type {Browser} */
let browser;

before(async () => {
  if (how.skip) return;
  server = await new Server().start();
  browser = await launch();
});

after(async () => {
  await browser?.close();
  for (const one of Server.running) await one.close();
});

/** What stands between the page and the server. It forwards everything until `lies` or `version` says otherwise. */
class Front {
  /** @type {(path: string) => [status: number, body: string] | undefined} What it answers itself. */
  lies = () => undefined;
  /** @type {(path: string) => string} The version of the page that it pretends a file is of. */
  version = () => '1';
  #server = createServer((request, response) => this.#answer(request, response));

  async start() {
    await new Promise((resolve) => this.#server.listen(0, '127.0.0.1', () => resolve(0)));
    return this;
  }

  get url() {
    return `http://localhost:${/** @type {import('node:net').AddressInfo} */ (this.#server.address()).port}/`;
  }

  /** @param {import('node:http').IncomingMessage} request @param {import('node:http').ServerResponse} response */
  #answer(request, response) {
    const path = request.url ?? '/';
    const lie = this.lies(path);
    if (lie) return response.writeHead(lie[0], { 'content-type': 'text/html' }).end(lie[1]);
    const headers = { ...request.headers, 'accept-encoding': 'identity', 'if-none-match': '' };
    const onward = ask({ port: server.port, path, method: request.method, headers }, (answer) => {
      const { 'content-length': _, etag, ...rest } = answer.headers;
      if (rest['x-orbital-page']) rest['x-orbital-page'] = `v${this.version(path)}`;
      response.writeHead(answer.statusCode ?? 500, rest);
      answer.pipe(response, { end: false });
      answer.on('end', () =>
        response.end(path === '/js/main.js' ? `\ndocument.documentElement.dataset.version = '${this.version(path)}';` : ''),
      );
    });
    onward.on('error', () => response.destroy());
    request.pipe(onward);
  }

  async close() {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

/** Somebody whose browser keeps the page. @param {Front} front */
async function visitor(front) {
  const person = await Person.sitDown(browser, 'visitor');
  const { page } = person;
  await page.goto(front.url);
  await page.locator('.entry-card form').waitFor();
  await page.evaluate(() => navigator.serviceWorker.ready);
  await until(
    () => page.evaluate(() => Boolean(navigator.serviceWorker.controller)),
    () => 'the service worker does not serve',
  );
  return person;
}

/** @param {Person} person @param {string} expected */
const shows = ({ page }, expected) =>
  until(
    async () =>
      (await page.locator('html').getAttribute('data-version')) === expected && (await page.locator('.entry-card form').count()) === 1,
    async () => `the page is of version ${await page.locator('html').getAttribute('data-version')}, not ${expected}`,
  );

test(
  '[KEPT1] the answer of a proxy or portal, of any status, is never shown in place of the kept page, nor kept as the page',
  how,
  async () => {
    const front = await new Front().start();
    const ada = await visitor(front);
    for (const status of [401, 403, 404, 413, 502, 503, 200]) {
      front.lies = () => [status, `<title>Not ours</title><h1>Please accept our terms (${status})</h1>`];
      await ada.page.reload();
      await shows(ada, '1');
      assert.equal(await ada.page.title(), 'Orbital', String(status));
    }
    front.lies = () => undefined;
    await ada.page.reload();
    await shows(ada, '1');
    await ada.close();
    await front.close();
  },
);

test(
  '[KEPT2] a new version is shown whole or not at all: with one file of it missing or of another version, the old one opens',
  how,
  async () => {
    const front = await new Front().start();
    const ada = await visitor(front);
    // An upgrade that has reached some of the servers behind a balancer.
    front.version = (path) => (path === '/js/views/home.js' ? '1' : '2');
    await ada.page.reload();
    await shows(ada, '1');
    front.version = () => '2';
    front.lies = (path) => (path === '/js/views/thread.js' ? [404, 'gone'] : undefined);
    await ada.page.reload();
    await shows(ada, '1');
    front.lies = () => undefined;
    await ada.page.reload();
    await shows(ada, '2');
    await front.close();
    await ada.page.reload();
    await shows(ada, '2');
    await ada.close();
  },
);

test(
  '[KEPT4] an open tab reports a new version and offers to reload; a version that does not load whole is not announced',
  how,
  async () => {
    const front = await new Front().start();
    const ada = await visitor(front);
    const { page } = ada;
    await ada.signUp(front.url);
    const bar = page.getByRole('region', { name: 'New version' });
    const look = () => page.evaluate(() => document.dispatchEvent(new Event('visibilitychange')));
    front.version = (path) => (path === '/js/views/home.js' ? '1' : '2');
    await look();
    await page.evaluate(async () => fetch('/icon.svg'));
    assert.equal(await bar.isVisible(), false);
    front.version = () => '2';
    await look();
    await bar.getByText('A new version of this page is ready.').waitFor();
    assert.equal(await page.locator('html').getAttribute('data-version'), '1');
    await bar.getByRole('button', { name: 'Reload' }).click();
    await until(
      async () => (await page.locator('html').getAttribute('data-version')) === '2',
      () => 'the new version does not open',
    );
    assert.equal(await bar.isVisible(), false);
    await ada.close();
    await front.close();
  },
);

test('[KEPT3] an open tab keeps its version while another tab opens a newer one', how, async () => {
  const front = await new Front().start();
  const ada = await visitor(front);
  front.version = () => '2';
  const other = await ada.page.context().newPage();
  // On a busy machine a version that comes too slowly is loaded for the next time.
  await until(
    async () => {
      await other.goto(front.url);
      await other.locator('.entry-card form').waitFor();
      return (await other.locator('html').getAttribute('data-version')) === '2';
    },
    () => 'the new tab has not the new version',
    60_000,
  );
  const text = await ada.page.evaluate(async () => (await fetch('/js/main.js')).text());
  assert.match(text, /dataset\.version = '1'/);
  const fresh = await other.evaluate(async () => (await fetch('/js/main.js')).text());
  assert.match(fresh, /dataset\.version = '2'/);
  await ada.close();
  await front.close();
});
