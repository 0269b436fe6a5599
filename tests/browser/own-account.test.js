/** One's own account in the page: password, sessions, one-time code, deletion. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { missing as noChromium, launch, Person, until } from './chromium.js';
import { missing as noServer, Server } from './server.js';

/** @typedef {import('playwright-core').Browser} Browser */

const how = { skip: noServer || noChromium, timeout: 900_000 };
const ANOTHER = 'Another-Horse-8';

/** @type {Server} */
let server;
/** @type {Browser} */
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

/** A person with an account and a group. @param {string} name @param {string} group */
async function member(name, group) {
  const person = await Person.sitDown(browser, `${name}_${++count}`);
  await person.signUp(server.url);
  await person.makeGroup(group);
  return person;
}

/** The same person in another browser. @param {Person} person @param {string} [password] */
async function elsewhere({ name, password: known }, password = known) {
  const other = await Person.sitDown(browser, name);
  const { page } = other;
  await page.goto(server.url);
  await page.getByRole('button', { name: 'Log in' }).click();
  await page.getByLabel('Name').fill(name);
  await page.getByLabel('Password', { exact: true }).fill(password);
  await page.locator('.entry-card .primary').click();
  await page.getByRole('button', { name: `Account of ${name}` }).waitFor();
  return other;
}

/** @param {Person} person @param {string} part */
async function openPart({ page, name }, part) {
  await page.getByRole('button', { name: `Account of ${name}` }).click();
  const box = page.getByRole('dialog', { name });
  await box.locator('summary', { hasText: part }).click();
  return box;
}

/** @param {Person} person */
const storedToken = ({ page }) => page.evaluate(() => JSON.parse(localStorage.getItem('orbital-session') ?? '{}').token);

test('[OWNPG1] a changed password logs all other devices out; this page and its other tabs stay, with a new token', how, async () => {
  const ada = await member('ada', 'The Lovelaces');
  const phone = await elsewhere(ada);
  const tab = new Person(ada.name, await ada.page.context().newPage());
  await tab.page.goto(server.url);
  await tab.isConnected();
  const before = await storedToken(ada);
  const box = await openPart(ada, 'Change the password');
  const submit = box.getByRole('button', { name: 'Change the password' });
  await box.getByLabel('Present password').fill('Wrong-Horse-77');
  await box.getByLabel('New password').fill('short');
  await submit.click();
  await box.getByText('The password still needs').waitFor();
  await box.getByLabel('New password').fill(ANOTHER);
  await submit.click();
  await box.getByText('The password is wrong.').waitFor();
  assert.equal(await storedToken(ada), before);

  await box.getByLabel('Present password').fill(ada.password);
  await submit.click();
  await box.getByText('Your password is changed.').waitFor();
  await phone.page.getByText('You were logged out.').waitFor();
  assert.notEqual(await storedToken(ada), before);
  await ada.page.keyboard.press('Escape');
  for (const each of [ada, tab]) await each.isConnected();
  await ada.beginThread('Still here', 'after the change');
  await ada.page.getByRole('heading', { level: 2, name: 'Still here' }).waitFor();
  await tab.page.locator('.card', { hasText: 'Still here' }).waitFor();
  await ada.page.reload();
  await ada.isConnected();
  const again = await elsewhere(ada, ANOTHER);

  assert.deepEqual([...ada.complaints, ...phone.complaints, ...again.complaints], []);
  for (const each of [ada, phone, again]) await each.close();
});

test('[OWNPG2] sessions are listed by browser and system, and another one is ended', how, async () => {
  const ada = await member('ada', 'The Lovelaces');
  const phone = await elsewhere(ada);
  const box = await openPart(ada, 'Where you are logged in');
  await until(
    async () => (await box.locator('.people li').count()) === 2,
    async () => JSON.stringify(await box.locator('.people li').allTextContents()),
  );
  const rows = await box.locator('.people li').allTextContents();
  assert.equal(rows.filter((text) => /^Chrome on \w+/.test(text)).length, 2, JSON.stringify(rows));
  assert.equal(rows.filter((text) => text.includes('(this one)')).length, 1);

  await box.getByRole('button', { name: /^End the session of Chrome/ }).click();
  await box.getByText('the session is ended.').waitFor();
  await phone.page.getByText('You were logged out.').waitFor();
  assert.equal(await box.locator('.people li').count(), 1);
  await ada.page.keyboard.press('Escape');
  await ada.isConnected();
  assert.deepEqual([...ada.complaints, ...phone.complaints], []);
  for (const each of [ada, phone]) await each.close();
});

test(
  '[OWNPG3] an account is deleted with its password, after the page lists what is deleted and what remains; the browser keeps nothing of it',
  how,
  async () => {
    const ada = await member('ada', 'Only mine');
    const ben = await member('ben', 'Ours');
    await ada.page.goto(await ben.inviteLink());
    await ada.page.getByRole('button', { name: 'Join the group' }).click();
    await ada.page.getByRole('heading', { level: 1, name: 'Ours' }).waitFor();
    const userId = await ada.page.evaluate(() => JSON.parse(localStorage.getItem('orbital-session') ?? '{}').user_id);
    const box = await openPart(ada, 'Delete the account');
    await box.getByRole('button', { name: 'Delete the account…' }).click();
    const question = ada.page.getByRole('dialog', { name: 'Delete your account?' });
    await question.getByText('everything in Only mine: you are the only member').waitFor();
    await question.getByText('your membership in 2 groups').waitFor();
    await question.getByText('Other members keep what their devices received.').waitFor();
    await question.getByLabel('Your password').fill('Wrong-Horse-77');
    await question.getByRole('button', { name: 'Delete my account' }).click();
    await question.getByText('The password is wrong.').waitFor();
    await ada.isConnected();

    await question.getByLabel('Your password').fill(ada.password);
    await question.getByRole('button', { name: 'Delete my account' }).click();
    await ada.page.getByText('Your account is deleted, and so are its keys in this browser.').waitFor();
    await ben.page.getByText(`${ada.name} left`).first().waitFor();
    const left = await ada.page.evaluate(async (id) => {
      const names = Object.entries(localStorage).flat();
      for (const { name } of await indexedDB.databases()) {
        const open = indexedDB.open(name ?? '');
        const base = await new Promise((resolve) => open.addEventListener('success', () => resolve(open.result)));
        for (const table of base.objectStoreNames) {
          const all = base.transaction(table).objectStore(table).getAllKeys();
          names.push(...(await new Promise((resolve) => all.addEventListener('success', () => resolve(all.result)))));
        }
        base.close();
      }
      return names.filter((text) => String(text).includes(id));
    }, userId);
    assert.deepEqual(left, []);
    await ada.page.reload();
    await ada.page.locator('.entry-card').waitFor();
    assert.deepEqual([...ada.complaints, ...ben.complaints], []);
    for (const each of [ada, ben]) await each.close();
  },
);

test('[OWNPG4] a wrong one-time code is refused in words, and the way back leads to the login', how, async () => {
  const eve = await Person.sitDown(browser, 'eve');
  const { page } = eve;
  await page.goto(server.url);
  await page.getByRole('button', { name: 'Log in' }).click();
  await page.getByRole('button', { name: 'Use a one-time code' }).click();
  await page.getByRole('button', { name: 'Set the password' }).click();
  await page.getByText('Enter the code that you received.').waitFor();
  await page.getByLabel('One-time code').fill('K7QM2-XZ9AB-CDEFG-HJKLM');
  await page.getByLabel('New password').fill(ANOTHER);
  await page.getByRole('button', { name: 'Set the password' }).click();
  await page.getByRole('alert').filter({ hasText: /code/ }).waitFor();
  await page.getByRole('button', { name: 'Back' }).click();
  await page.getByRole('heading', { name: 'Welcome back' }).waitFor();

  assert.deepEqual(
    eve.complaints.filter((text) => !/status of 403|status of 400/.test(text)),
    [],
  );
  await eve.close();
});
