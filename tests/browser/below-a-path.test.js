/** The page below a path of a host, behind the real nginx with the locations of the documentation. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { copyFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { missing as noChromium, launch, Person, until } from './chromium.js';
import { CHECKOUT, missing as noServer, Server } from './server.js';

const NGINX = ['/usr/sbin/nginx', '/usr/bin/nginx'].find((path) => existsSync(path));
const noNginx = NGINX ? false : 'nginx is missing: apt-get install nginx';
if (noNginx && process.env.ORBITAL_TESTS_COMPLETE === '1') throw new Error(noNginx);
const how = { skip: noServer || noChromium || noNginx, timeout: 900_000 };

/** @type {Server} */
let server;
/** @type {import('playwright-core').Browser} */
let browser;
/** @type {import('node:child_process').ChildProcess | undefined} */
let nginx;
let folder = '';
let origin = '';

/** @returns {Promise<number>} */
async function freePort() {
  const probe = createServer();
  await new Promise((resolve) => probe.listen(0, '127.0.0.1', () => resolve(0)));
  const { port } = /** @type {import('node:net').AddressInfo} */ (probe.address());
  await new Promise((resolve) => probe.close(resolve));
  return port;
}

/** The configuration as the page of the documentation prints it, around it what a host of one's own has. @param {number} port */
async function configuration(port) {
  const page = await readFile(join(CHECKOUT, 'docs/how-to/behind-a-proxy.md'), 'utf8');
  const block = (/** @type {string} */ name) => new RegExp(`<!-- example: ${name} -->\n\`\`\`nginx\n([^]*?)\n\`\`\``).exec(page)?.[1] ?? '';
  const line = /`("~\*\^GET \/orbital[^`]*)`/.exec(page)?.[1] ?? '';
  const head = block('nginx')
    .split('\nserver {')[0]
    ?.replace(/^ {4}"~\*\^GET.*$/m, `    ${line}`)
    .replace('127.0.0.1:3000', `127.0.0.1:${server.port}`);
  const places = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((kind) => `${kind}_temp_path ${folder}/${kind};`);
  const site = `server {\n  listen 127.0.0.1:${port};\n  location / { return 200 "another site"; }\n${block('nginx-path')}\n}`;
  const http = [...places, `access_log ${folder}/access.log;`, head, site].join('\n').replaceAll('/var/log/nginx/', `${folder}/`);
  return `daemon off;\npid ${folder}/pid;\nerror_log ${folder}/early.log;\nevents {}\nhttp {\n${http}\n}\n`;
}

before(async () => {
  if (how.skip) return;
  folder = await mkdtemp(join(tmpdir(), 'orbital-path-'));
  const port = await freePort();
  origin = `http://localhost:${port}`;
  server = new Server();
  server.settings = { ORBITAL_PUBLIC_URL: `${origin}/orbital`, ORBITAL_TRUSTED_PROXIES: '127.0.0.1' };
  await server.start();
  await copyFile(join(CHECKOUT, 'deploy/orbital-headers.conf'), join(folder, 'orbital-headers.conf'));
  await writeFile(join(folder, 'nginx.conf'), await configuration(port));
  nginx = spawn(NGINX ?? '', ['-c', join(folder, 'nginx.conf'), '-p', folder, '-e', join(folder, 'early.log')], { stdio: 'inherit' });
  await until(
    async () => (await fetch(`${origin}/orbital/health/ready`).catch(() => null))?.ok === true,
    () => 'nginx does not answer',
  );
  browser = await launch();
});

after(async () => {
  await browser?.close();
  nginx?.kill('SIGTERM');
  for (const one of Server.running) await one.close();
  if (folder) await rm(folder, { recursive: true, force: true });
});

test('[BELOW1] below a path two members talk, by a link that names the path, and the page opens without a network', how, async () => {
  const strays = /** @type {string[]} */ ([]);
  const [ann, ben] = [await Person.sitDown(browser, 'ann'), await Person.sitDown(browser, 'ben')];
  for (const { page } of [ann, ben])
    page.on('request', (request) => {
      const { pathname, protocol } = new URL(request.url());
      if (protocol.startsWith('http') && !pathname.startsWith('/orbital/')) strays.push(pathname);
    });
  await ann.signUp(`${origin}/orbital/`);
  await ann.makeGroup('Below');
  const link = await ann.inviteLink();
  assert.match(link, new RegExp(`^${origin}/orbital/#join=`));

  await ben.signUp(link);
  await ben.page.locator('.pill.good').waitFor();
  await ann.beginThread('Tea', 'At five?');
  await ben.openThread('Tea');
  await ben.reply('Yes, at five.');
  await ann.sees(['Yes, at five.']);
  assert.deepEqual(strays, []);

  const scope = await ann.page.evaluate(async () => (await navigator.serviceWorker.ready).scope);
  assert.equal(scope, `${origin}/orbital/`);
  await ann.page.evaluate(() => caches.open('another-site'));
  await ann.page.context().setOffline(true);
  await ann.page.reload();
  await ann.page.getByText('You are offline.').first().waitFor();
  const caches_ = await ann.page.evaluate(() => caches.keys());
  assert.ok(caches_.includes('another-site'), 'a cache of another page of the host is left alone');
  await ann.page.context().setOffline(false);
  for (const one of [ann, ben]) await one.close();
});

test('[BELOW2] the manifest, the OpenAPI document and /docs name the path', how, async () => {
  const openapi = await (await fetch(`${origin}/orbital/openapi.json`)).json();
  const manifest = await (await fetch(`${origin}/orbital/manifest.webmanifest`)).json();
  const docs = await (await fetch(`${origin}/orbital/docs`)).text();
  const bare = await fetch(`${origin}/orbital`, { redirect: 'manual' });

  assert.deepEqual(openapi.servers, [{ url: `${origin}/orbital` }]);
  assert.equal(new URL(manifest.start_url, `${origin}/orbital/manifest.webmanifest`).href, `${origin}/orbital/`);
  assert.deepEqual(
    [...docs.matchAll(/href="([^#"]*)"/g)].map(([, to = '']) => new URL(to, `${origin}/orbital/docs`).pathname),
    ['/orbital/openapi.json'],
  );
  assert.equal(bare.headers.get('location')?.replace(/^https?:\/\/[^/]+/, ''), '/orbital/');
  assert.equal((await fetch(`${origin}/orbital/metrics`)).status, 404);
});
