/** How messages reach the reader: notifications after a lost connection, and the direction of text. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { missing as noChromium, inPage, launch, Person, until } from './chromium.js';
import { missing as noServer, Server } from './server.js';

/** @typedef {import('playwright-core').Browser} Browser */

/** Long, for a machine that is busy with other tests. */
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
  await Promise.all([...Server.running].map((one) => one.close()));
});

test('[MISSED3] a reply that was missed while the connection was lost is notified when the connection is back', how, async () => {
  const ada = await Person.sitDown(browser, 'ada');
  await ada.signUp(server.url);
  await ada.makeGroup('The Lovelaces');
  await ada.beginThread('Hospital', 'News from grandma');
  await ada.page.locator('.opening h2').waitFor();
  const ben = await Person.sitDown(browser, 'ben', { permissions: ['notifications'], serviceWorkers: 'block' });
  await ben.signUp(await ada.inviteLink());
  await ben.page.getByRole('region', { name: 'Threads' }).getByRole('link', { name: 'Hospital' }).waitFor();
  await ben.isConnected();
  await ben.page.evaluate(() => {
    const page = /** @type {any} */ (globalThis);
    page.notified = [];
    page.Notification = class {
      static permission = 'granted';
      /** @param {string} title @param {{body: string}} options */
      constructor(title, { body }) {
        page.notified.push([title, body]);
      }
    };
  });
  const notified = () => ben.page.evaluate(() => /** @type {any} */ (globalThis).notified);

  // Without a network no new connection can be opened, so the replies are missed for certain.
  await ben.page.getByRole('button', { name: /^What the server sees/ }).click();
  await ben.page.context().setOffline(true);
  await ben.page.getByRole('button', { name: 'Drop the connection' }).click();
  await ben.page.locator('.pill.good').waitFor({ state: 'detached' });
  await ada.reply('She is awake.');
  await ada.reply('Call me.');
  await ada.sees(['She is awake.', 'Call me.']);
  await until(
    async () => (await ada.page.locator('.items .waiting').count()) === 0,
    () => 'the replies were not sent',
  );
  assert.deepEqual(await notified(), []);
  await ben.page.context().setOffline(false);
  await ben.isConnected();
  await until(
    async () => (await notified()).length > 0,
    () => 'no notification was shown',
  );
  assert.deepEqual(await notified(), [['ada in “Hospital”', 'Call me. (and 1 more)']]);
  assert.deepEqual(ada.complaints, []);
  await ada.close();
  await ben.close();
});

test(
  '[BIDI1] Hebrew and Arabic text is right-to-left in titles, texts, lists, cards and fields, beside left-to-right text',
  how,
  async () => {
    const ruth = await Person.sitDown(browser, 'ruth');
    const { page } = ruth;
    await ruth.signUp(server.url);
    await ruth.makeGroup('Cohen');
    await page.getByRole('link', { name: 'New thread' }).click();
    await page.getByLabel('Title').fill('מה שלומך?');
    const direction = (/** @type {import('playwright-core').Locator} */ place) => inPage(place, (node) => getComputedStyle(node).direction);
    assert.equal(await direction(page.getByLabel('Title')), 'rtl');
    await page.getByLabel('What is it about?').fill('שלום!\n\n- חלב\n- לחם\n\n> ציטוט\n\nHello.');
    assert.equal(await direction(page.getByLabel('What is it about?')), 'rtl');
    await page.getByRole('button', { name: 'Create the thread' }).click();
    await page.locator('.opening h2').waitFor();
    for (const [place, expected] of [
      ['.opening h2', 'rtl'],
      ['.opening .words p:first-child', 'rtl'],
      ['.opening .words ul', 'rtl'],
      ['.opening .words blockquote', 'rtl'],
      ['.opening .words p:last-child', 'ltr'],
      ['.card .card-title', 'rtl'],
      ['.card .card-text', 'rtl'],
    ])
      assert.equal(await direction(page.locator(place ?? '').first()), expected, place);
    await ruth.composer.fill('مرحبا!');
    assert.equal(await direction(ruth.composer), 'rtl');
    await ruth.composer.press('Enter');
    await ruth.sees(['مرحبا!']);
    assert.equal(await direction(page.locator('.items .words p')), 'rtl');
    assert.deepEqual(ruth.complaints, []);
    await ruth.close();
  },
);
