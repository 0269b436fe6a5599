/** Roles in a group, and invitations for one person. */
import assert from 'node:assert/strict';
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

/** @param {Person} person */
async function openMembers({ page }) {
  await page.getByRole('button', { name: /^Members/ }).click();
  return page.getByRole('dialog', { name: 'Members' });
}

test(
  '[OWNPG6] the founder makes a member an administrator, who then invites one person by a single-use link and removes members',
  how,
  async () => {
    const [ada, ben, cleo, eve] = [
      await Person.sitDown(browser, 'ada'),
      await Person.sitDown(browser, 'ben', { viewport: { width: 360, height: 740 } }),
      await Person.sitDown(browser, 'cleo'),
      await Person.sitDown(browser, 'eve'),
    ];
    await ada.signUp(server.url);
    await ada.makeGroup('Ours');
    await ben.signUp(await ada.inviteLink());
    await ben.page.getByRole('heading', { level: 1, name: 'Ours' }).waitFor();
    await ada.page.getByRole('button', { name: /Members: 2 members/ }).waitFor();
    const before = await openMembers(ben);
    await before.getByText('ada').first().waitFor();
    assert.equal(await before.getByRole('button', { name: /^(Role|Remove)/ }).count(), 0);
    await ben.page.keyboard.press('Escape');

    const box = await openMembers(ada);
    await box.getByText('founder').waitFor();
    await box.getByRole('button', { name: 'Role of ben' }).click();
    await ada.page.getByRole('button', { name: 'Make an administrator' }).click();
    await ada.page.getByRole('dialog', { name: 'Members' }).getByText('administrator').waitFor();
    await ada.page.keyboard.press('Escape');

    const renew = ben.page.locator('summary', { hasText: 'Replace the invite code' });
    await until(
      async () => {
        const members = await openMembers(ben);
        await members.getByRole('button', { name: 'Invite somebody' }).click();
        await ben.page.locator('[data-invite]').waitFor();
        const found = await renew.count();
        if (!found) await ben.page.keyboard.press('Escape');
        return found;
      },
      () => 'ben does not become an administrator',
    );
    await renew.click();
    await ben.page.getByLabel('For one person').check();
    await ben.page.getByLabel('Valid for').selectOption('24');
    await ben.page.getByRole('button', { name: 'Replace the code' }).click();
    await ben.page.getByText(/^One person can join with it, until/).waitFor();
    const link = await ben.page.locator('[data-invite]').inputValue();
    await ben.page.keyboard.press('Escape');
    await cleo.signUp(link);
    await cleo.page.getByRole('heading', { level: 1, name: 'Ours' }).waitFor();
    await eve.signUp(link);
    await eve.page.getByText('This invite link is no longer valid.').waitFor();

    await ben.page.getByRole('button', { name: /Members: 3 members/ }).waitFor();
    const members = await openMembers(ben);
    assert.equal(await members.getByRole('button', { name: 'Remove ada' }).count(), 0);
    await members.getByRole('button', { name: 'Remove cleo' }).click();
    await ben.page.getByRole('button', { name: 'Remove cleo' }).click();
    await cleo.page.getByText('You are not in a group yet').waitFor();
    assert.deepEqual([...ada.complaints, ...ben.complaints, ...cleo.complaints], []);
    for (const person of [ada, ben, cleo, eve]) await person.close();
  },
);
