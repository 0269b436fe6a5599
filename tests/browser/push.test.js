/** Push messages: the real server, a push service of the tests' own, and Chromium's real service worker. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { missing as noChromium, launch, Person } from './chromium.js';
import { CalledBrowser, PushService } from './push-service.js';
import { missing as noServer, Server } from './server.js';

/** @typedef {import('playwright-core').Browser} Browser */

const how = { skip: noServer || noChromium, timeout: 900_000 };

/** @type {Server} */
let server;
/** @type {Browser} */
let browser;
/** @type {PushService} */
let service;

before(async () => {
  if (how.skip) return;
  service = await new PushService().start();
  server = new Server();
  server.settings = { ORBITAL_PUSH_NETWORKS: '127.0.0.0/8' };
  await server.start();
  browser = await launch();
});

after(async () => {
  await browser?.close();
  for (const one of Server.running) await one.close();
  await service?.close();
});

let number = 0;

/** Ada, who has a thread, and Ben, whose browser is called. */
async function home() {
  number += 1;
  const ada = await Person.sitDown(browser, `ada${number}`);
  await ada.signUp(server.url);
  await ada.makeGroup('The Lovelaces');
  const link = await ada.inviteLink();
  const ben = await Person.sitDown(browser, `ben${number}`, { permissions: ['notifications'] });
  const phone = await new CalledBrowser(ben, service).prepare();
  await ben.signUp(link);
  await ben.page.getByRole('heading', { level: 1, name: 'The Lovelaces' }).waitFor();
  await ben.page.evaluate(() => navigator.serviceWorker.ready);
  await ada.beginThread('Dinner', 'At seven?');
  await ben.openThread('Dinner');
  await phone.shows([]);
  return { ada, ben, phone };
}

/** @param {Person} person */
async function openAccount({ page, name }) {
  await page.getByRole('button', { name: `Account of ${name}` }).click();
}

/** @param {Person} person */
async function turnOn(person) {
  await openAccount(person);
  await person.page.getByRole('button', { name: 'Notify me of new messages' }).click();
  await person.page.getByText('also while this page is closed.').waitFor();
}

/** @param {Person} person */
async function closeDialog({ page }) {
  await page.keyboard.press('Escape');
  await page.getByRole('dialog').waitFor({ state: 'detached' });
}

/** Let the page believe that it is hidden, or visible again: headless pages never are. @param {Person} person @param {boolean} hidden */
async function hide({ page }, hidden) {
  const reported = page.waitForResponse((response) => response.url().endsWith('/seen'));
  await page.evaluate(
    (state) => {
      Object.defineProperty(document, 'visibilityState', { configurable: true, get: () => state });
      document.dispatchEvent(new Event('visibilitychange'));
    },
    hidden ? 'hidden' : 'visible',
  );
  await reported;
}

test('[PWEB1] a closed page is called, and the service worker opens the sealed words with the key of the device', how, async () => {
  const { ada, ben, phone } = await home();
  await turnOn(ben);
  await closeDialog(ben);
  await hide(ben, true);
  await ada.openThread('Dinner');
  await ada.reply('Soup and bread.');

  const [reply] = await phone.called(1);
  const deliver = await phone.leave();
  await deliver(reply);
  await phone.shows([[`${ada.name} in “Dinner”`, 'Soup and bread.']]);
  assert.equal(JSON.stringify(reply).includes('Soup'), false);
  // The same once more, as push services do at times; then another one of the thread.
  await deliver(reply);
  await ada.reply('And cake.');
  const [, cake] = await phone.called(2);
  await deliver(cake);
  await phone.shows([[`${ada.name} in “Dinner”`, 'And cake. (and 1 more)']]);
  await ada.close();
  await ben.close();
});

test('[PWEB2] without the key, or without the content, the notification says that something is new', how, async () => {
  const { ada, ben, phone } = await home();
  await turnOn(ben);
  await closeDialog(ben);
  await hide(ben, true);
  await ada.openThread('Dinner');
  await ada.reply('Soup and bread.');
  const [reply] = await phone.called(1);
  const deliver = await phone.leave();

  await deliver({ ...reply, data: undefined });
  await phone.shows([[`${ada.name} in “Dinner”`, 'Something new']]);
  await deliver({ ...reply, user_id: 'somebody else', thread_id: 'other' });
  await deliver('nonsense');
  await phone.shows([
    [`${ada.name} in “Dinner”`, 'Something new'],
    ['Something new', ''],
    ['Something new', ''],
  ]);
  await ada.close();
  await ben.close();
});

test('[PWEB3] a visible page is not called; what was read is cleared from the notifications', how, async () => {
  const { ada, ben, phone } = await home();
  await turnOn(ben);
  await closeDialog(ben);
  await ada.openThread('Dinner');
  await ada.reply('Seen by the page.');
  await ben.page.getByText('Seen by the page.').first().waitFor();
  await hide(ben, true);
  await ada.reply('Called for.');
  const [payload] = await phone.called(1);
  const deliver = await phone.leave();
  await deliver(payload);
  await phone.shows([[`${ada.name} in “Dinner”`, 'Called for.']]);

  await ben.page.goto(`${server.url}/#/g/${payload.group_id}/t/${payload.thread_id}`);
  await ben.sees(['Seen by the page.', 'Called for.']);

  await phone.shows([]);
  assert.equal(service.messages.filter(({ path }) => path.endsWith(ben.name)).length, 1);
  await ada.close();
  await ben.close();
});

test('[PWEB4] muted groups and threads do not call, quiet hours are stored, and stopping ends the calls', how, async () => {
  const { ada, ben, phone } = await home();
  await turnOn(ben);
  const stored = ben.page.waitForRequest(
    (request) => request.url().endsWith('/api/push/subscriptions') && request.postDataJSON().mute.quiet !== null,
  );
  await ben.page.getByLabel(/Quiet hours/).check();
  const { quiet } = (await stored).postDataJSON().mute;
  assert.deepEqual([quiet.start, quiet.end], ['22:00', '07:00']);
  assert.ok(quiet.time_zone);
  await ben.page.getByLabel(/Quiet hours/).uncheck();
  const muted = ben.page.waitForResponse(
    (response) => response.url().endsWith('/api/push/subscriptions') && response.request().postDataJSON().mute.groups.length === 1,
  );
  await ben.page.getByLabel('The Lovelaces').uncheck();
  await muted;
  await closeDialog(ben);
  await hide(ben, true);
  await ada.beginThread('Not called for', '-');
  await ben.page.getByRole('link', { name: /Not called for/ }).waitFor();
  await hide(ben, false);
  await openAccount(ben);
  const unmuted = ben.page.waitForResponse(
    (response) => response.url().endsWith('/api/push/subscriptions') && response.request().postDataJSON().mute.groups.length === 0,
  );
  await ben.page.getByLabel('The Lovelaces').check();
  await unmuted;
  await closeDialog(ben);
  await ben.openThread('Dinner');
  const quietThread = ben.page.waitForResponse((response) => response.url().endsWith('/api/push/subscriptions'));
  await ben.page.getByRole('button', { name: 'Mute this thread' }).click();
  await quietThread;
  await ben.page.getByRole('button', { name: 'Notify me of this thread' }).waitFor();
  await hide(ben, true);
  await ada.openThread('Dinner');
  await ada.reply('In the muted thread.');
  await ada.beginThread('Loud', '-');

  const [payload] = await phone.called(1);
  assert.equal(payload.type, 'new_thread');
  await openAccount(ben);
  const ended = ben.page.waitForResponse((response) => response.request().method() === 'DELETE');
  await ben.page.getByRole('button', { name: 'Stop notifying this device' }).click();
  assert.equal((await ended).status(), 204);
  await ben.page.getByRole('button', { name: 'Notify me of new messages' }).waitFor();
  assert.deepEqual(ben.complaints, []);
  await ada.close();
  await ben.close();
});
