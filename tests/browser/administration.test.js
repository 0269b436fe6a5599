/** The administration of a server and one's own account, in a real Chromium. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { after, before, test } from 'node:test';
import { missing as noChromium, launch, Person, until } from './chromium.js';
import { missing as noServer, Server } from './server.js';

/** @typedef {import('playwright-core').Browser} Browser */

const how = { skip: noServer || noChromium, timeout: 900_000 };
const AXE = createRequire(import.meta.url).resolve('axe-core/axe.min.js');
/** Where screenshots go, for a person who looks at them. */
const SHOTS = process.env.ORBITAL_SCREENSHOTS;

/** @type {Browser} */
let browser;

before(async () => {
  if (!how.skip) browser = await launch();
});

after(async () => {
  await browser?.close();
  for (const one of Server.running) await one.close();
});

/** @param {Person} person */
async function openAccount({ page, name }) {
  await page.getByRole('button', { name: `Account of ${name}` }).click();
  await page.getByRole('dialog', { name }).waitFor();
}

/** @param {Person} person @param {string} [part] */
async function administer(person, part) {
  await openAccount(person);
  await person.page.getByRole('button', { name: 'Administration' }).click();
  const box = person.page.getByRole('dialog', { name: 'Administration' });
  if (part) await box.getByRole('navigation').getByRole('button', { name: part }).click();
  return box;
}

/** @param {Person} person @param {string} user */
async function manage(person, user) {
  await person.page.getByRole('button', { name: `Manage ${user}` }).click();
  const box = person.page.getByRole('dialog', { name: user, exact: true });
  await box.locator('.facts').waitFor();
  return box;
}

/** @param {Person} person @param {string} where */
async function accessible({ page }, where) {
  // A dialog fades in, and buttons change their colours.
  await until(
    () =>
      page.evaluate(() =>
        document.getAnimations().every((one) => one.playState !== 'running' || one.effect?.getTiming().iterations === Infinity),
      ),
    () => `${where} keeps moving`,
  );
  if (SHOTS) await page.screenshot({ path: `${SHOTS}/${where.replace(/\W+/g, '-')}.png` });
  const found = await page.evaluate(async () => {
    const { violations } = await /** @type {any} */ (globalThis).axe.run(document, {
      runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'],
    });
    return violations.map(
      (/** @type {any} */ one) =>
        `${one.id}: ${one.nodes.map((/** @type {any} */ node) => `${node.html} ${node.failureSummary}`).join('\n')}`,
    );
  });
  assert.deepEqual(found, [], where);
  const sideways = await page.evaluate(() =>
    [document.documentElement, ...document.querySelectorAll('dialog')].map((box) => box.scrollWidth - box.clientWidth),
  );
  // What is cut off on its left does not scroll.
  const cut = await page
    .locator('dialog button:visible')
    .evaluateAll((all) =>
      all
        .filter((one) => one.getBoundingClientRect().left < 0 || one.scrollWidth > one.clientWidth + 1)
        .map(({ textContent }) => textContent),
    );
  assert.deepEqual(cut, [], where);
  assert.ok(
    sideways.every((width) => width <= 0),
    `${where} scrolls sideways: ${sideways}`,
  );
}

/** @param {Server} server @param {string} username @param {string} password */
const logIn = (server, username, password) =>
  fetch(`${server.url}/api/login`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ username, password }),
  });

test('[ADMPG1] the first account finds the administration in its settings; another user does not', how, async () => {
  const server = await new Server().start();
  const [ada, ben] = [await Person.sitDown(browser, 'ada'), await Person.sitDown(browser, 'ben')];
  for (const person of [ada, ben]) await person.signUp(server.url);

  const box = await administer(ada);
  await box.getByText('2 users').waitFor();
  await openAccount(ben);
  await ben.page.getByText('Change the password').first().waitFor();

  assert.equal(await ben.page.getByRole('button', { name: 'Administration' }).count(), 0);
  assert.deepEqual(await box.locator('.people strong').allTextContents(), ['ada', 'ben']);
  assert.deepEqual([...ada.complaints, ...ben.complaints], []);
  for (const person of [ada, ben]) await person.close();
  await server.close();
});

test('[ADMPG2] a user is searched, disabled with a reason, enabled, promoted, given a one-time code, and deleted', how, async () => {
  const server = await new Server().start();
  const [ada, ben, cleo] = [
    await Person.sitDown(browser, 'ada'),
    await Person.sitDown(browser, 'ben'),
    await Person.sitDown(browser, 'cleo'),
  ];
  for (const person of [ada, ben, cleo]) await person.signUp(server.url);
  await ben.makeGroup('A name that nobody else reads');
  const { page } = ada;
  const list = await administer(ada);
  await list.getByLabel('Search by name').fill('BE');
  await list.getByText('1 user', { exact: true }).waitFor();
  assert.deepEqual(await list.locator('.people strong').allTextContents(), ['ben']);

  const box = await manage(ada, 'ben');
  await box.getByText('Disable the account').click();
  await box.getByLabel('Reason, shown to ben').fill('lost phone');
  await box.getByRole('button', { name: 'Disable' }).click();
  await box.getByText('ben cannot log in.').waitFor();
  await ben.page.getByText('You were logged out.').waitFor();
  const refused = await logIn(server, 'ben', ben.password);
  assert.deepEqual([refused.status, (await refused.json()).details], [403, { reason: 'lost phone' }]);
  await box.getByText('lost phone').waitFor();
  await box.getByText('Enable the account').click();
  await box.getByRole('button', { name: 'Enable' }).click();
  await box.getByText('ben can log in again.').waitFor();

  await box.getByText('Make an administrator').first().click();
  await box.getByRole('button', { name: 'Make an administrator' }).click();
  await box.getByText('ben is an administrator.').waitFor();
  await box.getByText('Remove the administrator’s role').click();
  await box.getByRole('button', { name: 'Remove the role' }).click();
  await box.getByText('ben is no longer an administrator.').waitFor();

  await box.getByText('One-time code for a new password').click();
  await box.getByRole('button', { name: 'Make a code' }).click();
  const code = await box.getByLabel('One-time code for ben').inputValue();
  await ben.page.getByRole('button', { name: 'Use a one-time code' }).click();
  await ben.page.getByLabel('One-time code').fill(code.toLowerCase().replaceAll('-', ' '));
  await ben.page.getByLabel('New password').fill('Another-Horse-8');
  await ben.page.getByRole('button', { name: 'Set the password' }).click();
  await ben.page.getByRole('heading', { level: 1, name: 'A name that nobody else reads' }).waitFor();

  await box.getByRole('button', { name: 'Delete the account…' }).click();
  const question = page.getByRole('dialog', { name: 'Delete ben’s account?' });
  await question.getByText('the membership in 1 group').waitFor();
  await question.getByRole('button', { name: 'Cancel' }).click();
  await box.getByRole('button', { name: 'Delete the account…' }).click();
  await page.getByRole('dialog', { name: 'Delete ben’s account?' }).getByRole('button', { name: 'Delete ben' }).click();
  await ben.page.getByText('You were logged out.').waitFor();
  assert.equal((await logIn(server, 'ben', 'Another-Horse-8')).ok, false);
  assert.equal((await logIn(server, 'cleo', cleo.password)).ok, true);
  assert.doesNotMatch((await page.locator('body').textContent()) ?? '', /nobody else reads/);
  assert.deepEqual([...ada.complaints, ...ben.complaints], []);
  for (const person of [ada, ben, cleo]) await person.close();
  await server.close();
});

test('[ADMPG3] an invitation is a link that creates one account; it is listed with who used it, or revoked', how, async () => {
  const server = new Server();
  await server.start();
  const [ada, ben] = [await Person.sitDown(browser, 'ada'), await Person.sitDown(browser, 'ben')];
  await ada.signUp(server.url);
  await server.stop();
  server.settings = { ORBITAL_SIGNUPS: 'invited' };
  await server.start();
  await ada.isConnected();
  const box = await administer(ada, 'Invitations');
  const make = async (/** @type {string} */ note) => {
    await box.getByLabel('Whom it is for').fill(note);
    await box.getByRole('button', { name: 'Make a link' }).click();
    await box.getByRole('button', { name: `Revoke ${note}` }).waitFor();
    return box.getByLabel('Invitation link').inputValue();
  };
  const [forBen, forEve] = [await make('for ben'), await make('for eve')];
  await ben.signUp(forBen);
  await box.getByRole('button', { name: 'Revoke for eve' }).click();
  await box.getByText('used by ben').waitFor();
  await until(
    async () => (await box.locator('.people li').count()) === 1,
    async () => JSON.stringify(await box.locator('.people li').allTextContents()),
  );
  await box.getByLabel('Valid for days').fill('400');
  await box.getByRole('button', { name: 'Make a link' }).click();
  await box.getByText('1 to 365 days').waitFor();

  assert.notEqual(forBen, forEve);
  assert.equal(await box.getByRole('button', { name: /^Revoke/ }).count(), 0);
  const eve = await Person.sitDown(browser, 'eve');
  await eve.page.goto(forEve);
  await eve.page.getByLabel('Name').fill('eve');
  await eve.page.getByLabel('Password', { exact: true }).fill(eve.password);
  await eve.page.getByRole('button', { name: 'Create my account' }).click();
  await eve.page.getByText('This invitation is unknown, used or expired.').waitFor();
  assert.deepEqual([...ada.complaints, ...ben.complaints], []);
  for (const person of [ada, ben, eve]) await person.close();
  await server.close();
});

test(
  '[ADMPG4] storage shows totals, the reserve and each group without its name; a group is deleted after a question; health names the version',
  how,
  async () => {
    const server = await new Server().start();
    const [ada, ben] = [await Person.sitDown(browser, 'ada'), await Person.sitDown(browser, 'ben')];
    for (const person of [ada, ben]) await person.signUp(server.url);
    await ben.makeGroup('Kept secret');
    const { version } = await (await fetch(`${server.url}/api/about`)).json();
    const box = await administer(ada, 'Storage');
    for (const name of ['Free on the disk', 'Reserve', 'Limit of all media']) await box.getByText(name, { exact: true }).waitFor();
    await box.getByText('Group of ben').waitFor();
    const seen = (await box.textContent()) ?? '';
    await box.getByRole('button', { name: 'Delete the group of ben' }).click();
    const question = ada.page.getByRole('dialog', { name: 'Delete this group?' });
    await question.getByText('the membership of 1 member').waitFor();
    await question.getByRole('button', { name: 'Delete the group' }).click();
    await ben.page.getByText('You are not in a group yet').waitFor({ timeout: 120_000 });
    await box.getByRole('button', { name: 'Health' }).click();
    await box.getByText('works', { exact: true }).waitFor();

    assert.doesNotMatch(seen, /Kept secret/);
    await box.getByText(version, { exact: true }).waitFor();
    assert.deepEqual([...ada.complaints, ...ben.complaints], []);
    for (const person of [ada, ben]) await person.close();
    await server.close();
  },
);

for (const [screen, options] of /** @type {[string, import('playwright-core').BrowserContextOptions][]} */ ([
  ['wide, light', { viewport: { width: 1280, height: 800 }, colorScheme: 'light' }],
  ['wide, dark', { viewport: { width: 1280, height: 800 }, colorScheme: 'dark' }],
  ['narrow, light', { viewport: { width: 360, height: 740 }, colorScheme: 'light', hasTouch: true }],
  ['narrow, dark', { viewport: { width: 360, height: 740 }, colorScheme: 'dark', hasTouch: true }],
]))
  test(`[ADMPG5] axe reports no violation in the administration and the settings, and nothing is cut off: ${screen}`, how, async () => {
    const server = await new Server().start();
    const ada = await Person.sitDown(browser, 'ada', options);
    await ada.page.addInitScript({ content: await readFile(AXE, 'utf8') });
    await ada.signUp(server.url);
    const ben = await Person.sitDown(browser, 'a_very_long_name_of_somebody_who_is_called_so');
    await ben.signUp(server.url);
    await ben.makeGroup('Theirs');
    const { page } = ada;
    const check = (/** @type {string} */ where) => accessible(ada, `${screen}: ${where}`);
    const box = await administer(ada);
    await box.getByText('2 users').waitFor();
    await check('users');
    const user = await manage(ada, ben.name);
    for (const summary of await user.locator('summary').all()) await summary.click();
    await user.getByRole('button', { name: 'Make a code' }).click();
    await user.getByLabel(`One-time code for ${ben.name}`).waitFor();
    await check('a user');
    await user.getByRole('button', { name: 'Delete the account…' }).click();
    await check('the question before a deletion');
    for (const _ of [1, 2]) await page.keyboard.press('Escape');
    await box.getByRole('button', { name: 'Invitations' }).click();
    await box.getByLabel('Whom it is for').fill('Grandma');
    await box.getByRole('button', { name: 'Make a link' }).click();
    await box.getByRole('button', { name: 'Revoke Grandma' }).waitFor();
    await check('invitations');
    await box.getByRole('button', { name: 'Storage' }).click();
    await box.getByText(/^Group of/).waitFor();
    await check('storage');
    await box.getByRole('button', { name: 'Health' }).click();
    await box.getByText('works', { exact: true }).waitFor();
    await check('health');
    await page.keyboard.press('Escape');
    for (const summary of await page.locator('dialog summary').all()) await summary.click();
    await page.getByText('(this one)').waitFor();
    await check('settings');
    assert.deepEqual(ada.complaints, []);
    for (const person of [ada, ben]) await person.close();
    await server.close();
  });
