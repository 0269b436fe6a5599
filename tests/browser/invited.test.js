/** The page on a server where not everybody may make an account. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { missing as noChromium, launch, Person } from './chromium.js';
import { CHECKOUT, missing as noServer, Server } from './server.js';

/** @typedef {import('playwright-core').Browser} Browser */

const how = { skip: noServer || noChromium, timeout: 900_000 };
const ORBITAL = process.env.ORBITAL_PYTHON ?? join(CHECKOUT, '.venv/bin/python');

/** @type {Server} */
let server;
/** @type {Browser} */
let browser;

before(async () => {
  if (how.skip) return;
  server = new Server();
  server.settings = { ORBITAL_SIGNUPS: 'invited', ORBITAL_NAME: 'The Lovelaces' };
  await server.start();
  browser = await launch();
});

after(async () => {
  await browser?.close();
  for (const one of Server.running) await one.close();
});

/** An operator's link. @returns {Promise<string>} */
async function invitation() {
  const given = ['-m', 'orbital_relay', 'user', 'invite', '--data-dir', server.folder, '--public-url', server.url];
  return (await promisify(execFile)(ORBITAL, given)).stdout.trim();
}

test('[SGN11] without an invitation the page offers no sign-up, and says where to get an invitation', how, async () => {
  const eve = await Person.sitDown(browser, 'eve');

  await eve.page.goto(server.url);
  await eve.page.getByText('Ask a member, or the person who runs this server, for an invite link.').waitFor();

  assert.equal(await eve.page.getByRole('heading', { level: 1 }).textContent(), 'The Lovelaces');
  assert.equal(await eve.page.getByRole('button', { name: 'Create an account' }).count(), 0);
  assert.equal(await eve.page.getByRole('button', { name: 'Log in' }).count(), 1);
  assert.deepEqual(eve.complaints, []);
});

test("[SGN12] the operator's link creates one account, a group's link more, and the address keeps neither", how, async () => {
  const [ada, ben, eve] = [
    await Person.sitDown(browser, 'ada'),
    await Person.sitDown(browser, 'ben'),
    await Person.sitDown(browser, 'eve2'),
  ];
  const link = await invitation();

  await ada.signUp(link);
  await ada.makeGroup('Sunday');
  await ben.signUp(await ada.inviteLink());
  await ben.page.getByRole('heading', { level: 1, name: 'Sunday' }).waitFor();
  await eve.page.goto(link);
  await eve.page.getByLabel('Name').fill('eve2');
  await eve.page.getByLabel('Password', { exact: true }).fill(eve.password);
  await eve.page.getByRole('button', { name: 'Create my account' }).click();
  await eve.page.getByText('This invitation is unknown, used or expired. Ask for a new one.').waitFor();

  assert.doesNotMatch(ada.page.url() + ben.page.url() + eve.page.url(), /invitation|join/);
  assert.deepEqual([...ada.complaints, ...ben.complaints], []);
});
