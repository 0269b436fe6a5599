/** The page behind a proxy that asks for a login of its own. */
import assert from 'node:assert/strict';
import { createServer, request as ask } from 'node:http';
import { connect } from 'node:net';
import { after, before, test } from 'node:test';
import { missing as noChromium, launch, Person, until } from './chromium.js';
import { missing as noServer, Server } from './server.js';

/** @typedef {import('playwright-core').Browser} Browser */
/** @typedef {import('node:http').IncomingMessage} Request */
/** @typedef {import('node:http').ServerResponse} Response */

const how = { skip: noServer || noChromium, timeout: 900_000 };
const BAR = 'Something in front of the server asks you to log in.';
const FORM = '<!doctype html><title>The proxy</title><form method="post" action="/proxy-login"><button>Log in at the proxy</button></form>';

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

/** @param {import('node:net').Server} one @returns {Promise<string>} */
async function listen(one) {
  await new Promise((resolve) => one.listen(0, '127.0.0.1', () => resolve(0)));
  return `http://localhost:${/** @type {import('node:net').AddressInfo} */ (one.address()).port}`;
}

/**
 * A proxy that lets nobody pass without its cookie. Its login is at an address of its own, as that of Authelia and of Cloudflare Access, or it
 * answers with its form in place of the page, as oauth2-proxy.
 */
class LoginProxy {
  /** Cookies that count; a value is given out at each login. */
  #session = 1;
  /** @type {string[]} Requests that were asked to log in. */
  refused = [];
  #sockets = new Set();
  #front = createServer((request, response) => this.#serve(request, response));
  #portal = createServer((request, response) => this.#answerPortal(request, response));

  /** @param {'redirect' | 401 | 403 | 200} asks How it asks. */
  constructor(asks) {
    this.asks = asks;
    this.#front.on('upgrade', (request, socket, head) => this.#upgrade(request, /** @type {import('node:net').Socket} */ (socket), head));
    this.#front.on('connection', (socket) => {
      this.#sockets.add(socket);
      socket.on('close', () => this.#sockets.delete(socket));
    });
  }

  async start() {
    this.url = await listen(this.#front);
    this.portal = await listen(this.#portal);
    return this;
  }

  /** The login ends, and connections that were made with it. */
  expire() {
    this.#session++;
    for (const socket of this.#sockets) socket.destroy();
  }

  /** @param {Request} request */
  #known = (request) => new RegExp(`proxy=${this.#session}(;|$)`).test(request.headers.cookie ?? '');

  get #cookie() {
    return `proxy=${this.#session}; Path=/; HttpOnly`;
  }

  /** @param {Request} request @param {Response} response */
  #answerPortal(request, response) {
    const back = new URL(request.url ?? '/', this.portal).searchParams.get('rd') ?? '/';
    if (request.method === 'POST') return response.writeHead(303, { location: back, 'set-cookie': this.#cookie }).end();
    response.writeHead(200, { 'content-type': 'text/html' }).end(FORM.replace('/proxy-login', request.url ?? '/'));
  }

  /** @param {Request} request @param {Response} response */
  #serve(request, response) {
    const path = request.url ?? '/';
    if (path === '/proxy-login') return response.writeHead(303, { location: '/', 'set-cookie': this.#cookie }).end();
    if (!this.#known(request)) {
      this.refused.push(path);
      request.resume();
      if (this.asks === 'redirect')
        return response.writeHead(302, { location: `${this.portal}/?rd=${encodeURIComponent(`${this.url}${path}`)}` }).end();
      return response.writeHead(this.asks, { 'content-type': 'text/html' }).end(FORM);
    }
    const onward = ask({ port: server.port, path, method: request.method, headers: request.headers }, (answer) => {
      response.writeHead(answer.statusCode ?? 500, answer.headers);
      answer.pipe(response);
    });
    onward.on('error', () => response.destroy());
    request.pipe(onward);
  }

  /** @param {Request} request @param {import('node:net').Socket} socket @param {Buffer} head */
  #upgrade(request, socket, head) {
    socket.on('error', () => {});
    if (!this.#known(request)) return socket.end('HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n');
    const onward = connect(server.port, '127.0.0.1');
    const lines = Object.entries(request.headers).map(([name, value]) => `${name}: ${value}\r\n`);
    onward.write(`GET ${request.url} HTTP/1.1\r\n${lines.join('')}\r\n`);
    onward.write(head);
    onward.pipe(socket).pipe(onward);
    onward.on('error', () => socket.destroy());
    socket.on('close', () => onward.destroy());
  }

  async close() {
    for (const one of [this.#front, this.#portal]) {
      one.closeAllConnections();
      for (const socket of this.#sockets) socket.destroy();
      await new Promise((resolve) => one.close(resolve));
    }
  }
}

/** @param {Person} person */
const barOf = ({ page }) => page.getByRole('region', { name: 'Connection' });

/** @param {Person} person */
const logIn = async ({ page }) => {
  await page.getByRole('button', { name: 'Log in at the proxy' }).click();
};

/** @param {Person} person */
async function kept({ page }) {
  await page.evaluate(() => navigator.serviceWorker.ready);
  await until(
    () => page.evaluate(() => Boolean(navigator.serviceWorker.controller)),
    () => 'the service worker does not serve',
  );
}

for (const asks of /** @type {const} */ (['redirect', 401, 403, 200]))
  test(
    `[LPX3] with a login proxy that answers by ${asks} the kept page opens, reports it, keeps session and texts, and links to the login and back`,
    how,
    async (t) => {
      const proxy = await new LoginProxy(asks).start();
      t.after(() => proxy.close());
      const ada = await Person.sitDown(browser, `ada_${asks}`);
      const { page } = ada;
      await page.goto(`${proxy.url}`);
      await logIn(ada);
      await ada.signUp(`${proxy.url}`);
      await ada.makeGroup('Family');
      await ada.beginThread('Letters', 'All of them');
      await page.getByRole('heading', { level: 2, name: 'Letters' }).waitFor();
      await kept(ada);
      await ada.isConnected();
      const where = page.url();
      const session = await page.evaluate(() => localStorage.getItem('orbital-session'));

      proxy.expire();
      const bar = barOf(ada);
      await bar.getByText(BAR).waitFor({ timeout: 120_000 });
      await ada.reply('Written in front of the login');
      await ada.sees(['(waiting) Written in front of the login']);
      await page.reload();
      await bar.getByText(BAR).waitFor({ timeout: 120_000 });
      assert.equal(await page.title(), 'Orbital');
      await page.locator('.pill').getByText('1 to send').waitFor();
      assert.equal(await page.evaluate(() => localStorage.getItem('orbital-session')), session);

      await bar.getByRole('button', { name: 'Open the login' }).click();
      assert.equal(await page.title(), 'The proxy');
      await logIn(ada);
      await ada.isConnected();
      assert.equal(page.url(), where);
      await ada.sees(['Written in front of the login']);
      assert.equal(await page.evaluate(() => localStorage.getItem('orbital-session')), session);
      assert.equal(await bar.count(), 0);
      assert.ok(proxy.refused.some((path) => path.startsWith('/api/')));

      // What was kept is the server's page still.
      await server.kill();
      await page.reload();
      await page.getByRole('button', { name: `Account of ada_${asks}` }).waitFor();
      await server.start();
      await ada.close();
    },
  );

test('[LPX4] after a login in another tab the page reconnects automatically', how, async (t) => {
  const proxy = await new LoginProxy('redirect').start();
  t.after(() => proxy.close());
  const ben = await Person.sitDown(browser, 'ben');
  const { page } = ben;
  await page.goto(`${proxy.url}`);
  await logIn(ben);
  await ben.signUp(`${proxy.url}`);
  await ben.makeGroup('Family');
  await ben.isConnected();
  proxy.expire();
  await barOf(ben).getByText(BAR).waitFor({ timeout: 120_000 });

  const other = await page.context().newPage();
  await other.goto(`${proxy.url}/?login`);
  await other.getByRole('button', { name: 'Log in at the proxy' }).click();
  await other.locator('.pill.good').waitFor({ timeout: 120_000 });
  await page.bringToFront();
  await ben.isConnected();
  await barOf(ben).waitFor({ state: 'hidden' });
  await ben.close();
});

test('[LPX5] after logout the log-in form reports the proxy and links to its login', how, async (t) => {
  const proxy = await new LoginProxy('redirect').start();
  t.after(() => proxy.close());
  const cleo = await Person.sitDown(browser, 'cleo');
  const { page } = cleo;
  await page.goto(`${proxy.url}`);
  await logIn(cleo);
  await cleo.signUp(`${proxy.url}`);
  await kept(cleo);
  await page.evaluate(() => localStorage.removeItem('orbital-session'));
  proxy.expire();
  await page.reload();
  await page.getByLabel('Name').fill('cleo');
  await page.getByLabel('Password', { exact: true }).fill(cleo.password);
  await page.getByRole('button', { name: 'Log in', exact: true }).click();
  const alert = page.getByRole('alert').filter({ hasText: BAR });
  await alert.getByRole('button', { name: 'Open the login' }).click();
  await logIn(cleo);
  await page.getByLabel('Name').fill('cleo');
  await page.getByLabel('Password', { exact: true }).fill(cleo.password);
  await page.getByRole('button', { name: 'Log in', exact: true }).click();
  await page.getByRole('button', { name: 'Account of cleo' }).waitFor();
  assert.ok(!page.url().includes('login'));
  await cleo.close();
});

test('[LPX6] /index.html opens without a network, too', how, async () => {
  const dora = await Person.sitDown(browser, 'dora');
  const { page } = dora;
  const own = await new Server().start();
  await page.goto(own.url);
  await page.locator('.entry-card form').waitFor();
  await kept(dora);
  await own.kill();
  await page.goto(`${own.url}/index.html`);
  await page.locator('.entry-card form').waitFor();
  assert.equal(await page.title(), 'Orbital');
  await dora.close();
  await own.close();
});
