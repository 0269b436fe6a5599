/** Groups of version 2 in the page: keys that change with every message. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { after, before, test } from 'node:test';
import { launch, missing as noChromium, Person } from './chromium.js';
import { missing as noServer, Server } from './server.js';

const how = { skip: noServer || noChromium, timeout: 180_000 };
const FOUNDED = { changing: true };

/** @type {Server} */
let server;
/** @type {import('playwright-core').Browser} */
let browser;
let count = 0;

before(async () => {
  if (how.skip) return;
  server = await new Server().start();
  browser = await launch();
});

after(async () => {
  await browser?.close();
  for (const one of Server.running) await one.close();
});

/** @param {string} name @param {string} where The page, or an invite link. */
async function person(name, where) {
  const one = await Person.sitDown(browser, `${name}_${++count}`);
  await one.signUp(where);
  await one.page.locator('.pill.good').waitFor();
  return one;
}

/** Ada's group with keys that change, and Ben in it. */
async function family() {
  const ada = await person('ada', server.url);
  await ada.makeGroup('The Lovelaces', FOUNDED);
  const ben = await person('ben', await ada.inviteLink());
  await ben.page.getByRole('heading', { level: 1, name: 'The Lovelaces' }).waitFor();
  return { ada, ben };
}

/** @param {Person[]} people */
const complaints = (people) => people.flatMap((one) => one.complaints);

test(
  '[CHGKEY1] members of a group with changing keys read each other in threads and replies, live and after a reload; the server has no word of it',
  how,
  async () => {
    const { ada, ben } = await family();
    await ada.beginThread('Canary Sunday', 'Who comes along, canary?');
    await ben.openThread('Canary Sunday');
    await ben.page.locator('.opening', { hasText: 'Who comes along, canary?' }).waitFor();
    await ben.reply('I do, canary');
    await ada.sees(['I do, canary']);
    await ada.reply('Good, canary');
    for (const one of [ada, ben]) await one.sees(['I do, canary', 'Good, canary']);
    for (const one of [ada, ben]) {
      await one.page.reload();
      await one.sees(['I do, canary', 'Good, canary']);
    }
    await ben.reply('After a reload');
    await ada.sees(['I do, canary', 'Good, canary', 'After a reload']);

    const second = await ben.page.context().newPage();
    await second.goto(ben.page.url());
    const tab = new Person('ben in a second tab', second);
    await tab.sees(['I do, canary', 'Good, canary', 'After a reload']);
    await tab.reply('From a second tab');
    for (const one of [ada, ben, tab]) await one.sees(['I do, canary', 'Good, canary', 'After a reload', 'From a second tab']);

    const files = Buffer.concat((await server.files()).map(([, content]) => content));
    assert.ok(files.length > 10_000);
    assert.ok(!files.includes('canary') && !files.includes('Canary'));
    assert.deepEqual(complaints([ada, ben]), []);
    await ada.close();
    await ben.close();
  },
);

test(
  '[CHGKEY2] a late joiner reads what is written from then on, and what was written before when the inviting member shows it',
  how,
  async () => {
    const { ada, ben } = await family();
    await ada.beginThread('Before', 'Written before Cleo came');
    await ben.openThread('Before');
    await ben.reply('Also before');
    await ada.sees(['Also before']);
    const cleo = await person('cleo', await ada.inviteLink());
    await ada.reply('Welcome');
    await cleo.page.locator('.thread-list a').first().click();
    await cleo.sees(['This cannot be read here yet: its key has not arrived.', 'Welcome']);

    for (const one of [ada, ben]) {
      await one.page.getByRole('button', { name: /^Members/ }).click();
      await one.page.getByRole('button', { name: `Show ${cleo.name} what was written before` }).click();
      await one.page.getByText('Shown', { exact: true }).waitFor();
      await one.page.keyboard.press('Escape');
      if (one === ada) await cleo.page.getByRole('heading', { level: 2, name: 'Before' }).waitFor();
    }
    await cleo.sees(['Also before', 'Welcome']);
    assert.deepEqual(complaints([ada, ben, cleo]), []);
    for (const one of [ada, ben, cleo]) await one.close();
  },
);

test(
  '[CHGKEY3] a text that is written without the server is sent once it is back, and a removed member reads nothing that follows',
  how,
  async () => {
    const { ada, ben } = await family();
    await ada.beginThread('Plans', 'What we do');
    await ben.openThread('Plans');
    await ada.openThread('Plans');
    await server.kill();
    await ada.reply('Written without a server');
    await ada.sees(['(waiting) Written without a server']);
    await ada.page.reload();
    await server.start();
    for (const one of [ada, ben]) await one.isConnected();
    for (const one of [ada, ben]) await one.sees(['Written without a server'], 60_000);

    await ada.page.getByRole('button', { name: /^Members/ }).click();
    await ada.page.getByRole('button', { name: `Remove ${ben.name}` }).click();
    await ada.page
      .getByRole('dialog')
      .getByRole('button', { name: `Remove ${ben.name}` })
      .click();
    await ada.page.getByRole('dialog').waitFor({ state: 'detached' });
    await ada.reply('Without Ben');
    await ada.sees(['Written without a server', 'Without Ben']);
    assert.deepEqual(complaints([ada]), []);
    await ada.close();
    await ben.close();
  },
);

test('[CHGKEY4] a photo is sent under a key of its own, shown to the others, and opens again after a reload', how, async () => {
  const { ada, ben } = await family();
  await ada.beginThread('Photos', 'Of the lake');
  await ada.page.locator('.opening h2').waitFor();
  await ada.page
    .locator('.composer input[type=file]')
    .setInputFiles({ name: 'lake.bin', mimeType: 'application/x-unknown', buffer: Buffer.from('canary in a file') });
  await ben.openThread('Photos');
  for (const one of [ada, ben]) {
    await one.sees(['lake.bin'], 60_000);
    await one.page.getByRole('button', { name: /^Download/ }).click();
    await one.page.getByRole('link', { name: 'Save lake.bin' }).waitFor();
  }
  await ben.page.reload();
  await ben.page.getByRole('button', { name: /^Download/ }).click();
  const [saved] = await Promise.all([ben.page.waitForEvent('download'), ben.page.getByRole('link', { name: 'Save lake.bin' }).click()]);
  assert.equal(await readFile(await saved.path(), 'utf8'), 'canary in a file');
  assert.ok(!Buffer.concat((await server.files()).map(([, content]) => content)).includes('canary in a file'));
  assert.deepEqual(complaints([ada, ben]), []);

  // A reading page whose keys are deleted keeps nothing of the group.
  await second.close();
  const databases = () => ben.page.evaluate(async () => (await indexedDB.databases()).map(({ name = '' }) => name.split(':')[0]));
  assert.deepEqual((await databases()).sort(), ['orbital', 'orbital-e2ee']);
  await ben.page.getByRole('button', { name: `Account of ${ben.name}` }).click();
  await ben.page.getByText('This is not my device').click();
  await ben.page.getByRole('button', { name: 'Log out and delete the keys' }).click();
  await ben.page.getByRole('button', { name: 'Delete the keys', exact: true }).click();
  await ben.page.getByText('the keys are deleted from this browser').waitFor();
  assert.deepEqual(await databases(), ['orbital']);
  await ada.close();
  await ben.close();
});
