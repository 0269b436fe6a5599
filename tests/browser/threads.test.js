/** The list of threads, by last activity, and what is new in a thread. */
import assert from 'node:assert/strict';
import { mkdir } from 'node:fs/promises';
import { after, before, test } from 'node:test';
import { missing as noChromium, inPage, launch, Person, until } from './chromium.js';
import { missing as noServer, Server } from './server.js';

/** @typedef {import('playwright-core').Browser} Browser */

const how = { skip: noServer || noChromium, timeout: 900_000 };
/** Where to put screenshots; none are taken when it is not set. */
const SHOTS = process.env.ORBITAL_SHOTS;

/** @type {Server} */
let server;
/** @type {Browser} */
let browser;
let count = 0;

before(async () => {
  if (how.skip) return;
  if (SHOTS) await mkdir(SHOTS, { recursive: true });
  server = await new Server().start();
  browser = await launch();
});

after(async () => {
  await browser?.close();
  for (const one of Server.running) await one.close();
});

/** Two members, both in the group, with a thread. */
async function pair() {
  const ada = await Person.sitDown(browser, `ada_${++count}`);
  await ada.signUp(server.url);
  await ada.makeGroup('The Lovelaces');
  await ada.beginThread('Sunday', 'at the lake');
  await ada.page.locator('.opening h2').waitFor();
  const ben = await Person.sitDown(browser, `ben_${count}`);
  await ben.signUp(await ada.inviteLink());
  await ben.openThread('Sunday');
  return { ada, ben };
}

/** @param {Person} person @param {string} name */
async function shoot({ page }, name) {
  if (!SHOTS) return;
  const size = page.viewportSize() ?? { width: 1280, height: 800 };
  for (const [screen, width, height] of /** @type {const} */ ([
    ['wide', 1280, 800],
    ['narrow', 390, 780],
  ]))
    for (const colorScheme of /** @type {const} */ (['light', 'dark'])) {
      await page.setViewportSize({ width, height });
      await page.emulateMedia({ colorScheme });
      await page.screenshot({ path: `${SHOTS}/${name}-${screen}-${colorScheme}.png` });
    }
  await page.emulateMedia({ colorScheme: 'light' });
  await page.setViewportSize(size);
}

/** @param {Person} person @returns {Promise<string[]>} The titles of the cards, in order. */
const titles = ({ page }) =>
  page
    .locator('.card-title')
    .evaluateAll((cards) => cards.map((card) => [...card.childNodes].find(({ nodeType }) => nodeType === 3)?.textContent ?? ''));

/** @param {Person} person @param {string[]} expected */
const lists = (person, expected) =>
  until(
    async () => JSON.stringify((await titles(person)).slice(0, expected.length)) === JSON.stringify(expected),
    async () => `${person.name} sees ${JSON.stringify(await titles(person))}`,
  );

/** @param {Person} person @param {string} path @param {object} [body] */
async function call({ page }, path, body) {
  const token = await page.evaluate(() => JSON.parse(localStorage.getItem('orbital-session') ?? '').token);
  const headers = { Authorization: `Bearer ${token}`, 'Content-Type': 'application/json' };
  const answer = await fetch(server.url + path, body ? { method: 'POST', headers, body: JSON.stringify(body) } : { headers });
  return answer.json();
}

test(
  '[THREADLAST1] a reply moves its thread to the top, with its text, its author and the number of new ones, live and after a reload',
  how,
  async () => {
    const { ada, ben } = await pair();
    await ada.beginThread('Recipes', 'Apple cake');
    await ada.page.getByRole('heading', { level: 2, name: 'Recipes' }).waitFor();
    await lists(ada, ['Recipes', 'Sunday']);

    await ben.reply('I bring the boat');
    await ben.reply('and the **dog**');
    const card = ada.page.getByRole('link', { name: /^Sunday/ });
    await card.getByText('and the dog').waitFor();
    await card.locator('.badge', { hasText: '2 new' }).waitFor();
    await card.getByText(`${ben.name} ·`).waitFor();
    await lists(ada, ['Sunday', 'Recipes']);
    await shoot(ada, 'list');
    await ada.page.reload();
    await card.getByText('and the dog').waitFor();
    await card.locator('.badge', { hasText: '2 new' }).waitFor();
    await lists(ada, ['Sunday', 'Recipes']);

    // Their own reply counts as nothing new.
    await ada.openThread('Recipes');
    await ada.reply('Who has flour?');
    await lists(ada, ['Recipes', 'Sunday']);
    const own = ada.page.getByRole('link', { name: /^Recipes/ });
    await own.getByText('You ·').waitFor();
    assert.equal(await own.locator('.badge').count(), 0);

    // The height of the card does not depend on somebody writing.
    const before = (await card.boundingBox())?.height;
    await ben.composer.pressSequentially('Hm');
    await card.getByText(`${ben.name} is writing…`).waitFor();
    assert.equal((await card.boundingBox())?.height, before);
    await ada.close();
    await ben.close();
  },
);

test(
  '[THREADLAST2] a thread beyond the newest 50 opens by its address after a reload, and moves up and is marked when it gets a reply',
  how,
  async () => {
    const { ada, ben } = await pair();
    const [, groupId = '', threadId = ''] = /g\/([\w-]+)\/t\/([\w-]+)/.exec(ada.page.url()) ?? [];
    for (let i = 0; i < 55; i++) await call(ben, '/api/threads', { group_id: groupId, encrypted_title: 'AAAA', encrypted_body: 'AAAA' });
    await ada.page.reload();
    await ada.page.getByRole('heading', { level: 2, name: 'Sunday' }).waitFor();
    assert.equal(await ada.page.getByText('This thread was not found.').count(), 0);

    await ada.page.goto(`${server.url}/#/g/${groupId}`);
    await ada.page.reload();
    await until(
      async () => (await ada.page.locator('.card').count()) === 50,
      async () => `${await ada.page.locator('.card').count()} cards`,
    );
    await ben.reply('Is anybody there?');
    const card = ada.page.getByRole('link', { name: /^Sunday/ });
    await card.getByText('Is anybody there?').waitFor();
    await card.locator('.badge', { hasText: '1 new' }).waitFor();
    await lists(ada, ['Sunday']);

    // The rest of the list is complete, though one of it is here already.
    await ada.page.getByRole('button', { name: 'Older threads' }).click();
    await until(
      async () => (await ada.page.locator('.card').count()) === 56,
      async () => `${await ada.page.locator('.card').count()} cards`,
    );
    assert.ok(threadId);
    await ada.close();
    await ben.close();
  },
);

test(
  '[THREADLAST3] a thread opens at the first new reply, with a line before it; a button with the number of new ones leads down',
  how,
  async () => {
    const { ada, ben } = await pair();
    for (let i = 1; i <= 14; i++) await ada.reply(`Old ${i}\n\nwith a second line`);
    await ben.page.getByText('Old 14').last().waitFor();
    await ada.page.getByRole('link', { name: 'New thread' }).click();
    for (let i = 1; i <= 12; i++) await ben.reply(`New ${i}\n\nwith a second line`);
    await ada.page.getByRole('link', { name: /^Sunday.* 12 new/ }).waitFor();
    await ada.openThread('Sunday');
    const line = ada.page.locator('.new-line');
    await line.waitFor();
    assert.equal(await inPage(line, (node) => node.nextElementSibling?.querySelector('.words p')?.textContent), 'New 1');
    const top = () =>
      inPage(line, (node) => node.getBoundingClientRect().top - (node.closest('.scroll')?.getBoundingClientRect().top ?? 0));
    await until(
      async () => (await top()) >= 0 && (await top()) < 60,
      async () => `the line stands at ${await top()} px`,
    );
    const down = ada.page.locator('.down');
    await down.getByText('12 new', { exact: true }).waitFor();
    assert.equal((await ada.page.locator('.bar').boundingBox())?.y, 0, 'the bar stays');
    await shoot(ada, 'new');

    await ben.reply('While you read');
    await down.getByText('13 new', { exact: true }).waitFor();
    assert.ok((await top()) < 60, 'the position stays');
    await down.click();
    await ada.page.getByText('While you read').last().waitFor();
    await down.waitFor({ state: 'hidden' });
    await ben.reply('At the end');
    await until(
      () => ada.page.locator('.thread .scroll').evaluate((node) => node.scrollHeight - node.scrollTop - node.clientHeight < 120),
      () => 'the end is not in sight',
    );
    assert.equal(await down.isVisible(), false);
    await ada.page.locator('.thread .scroll').evaluate((node) => node.scrollTo(0, 0));
    await down.getByText('To the end').waitFor();
    // Opened again there is nothing new.
    await ada.page.getByRole('link', { name: 'New thread' }).click();
    await ada.openThread('Sunday');
    await ada.page.getByText('At the end').last().waitFor();
    assert.equal(await line.count(), 0);
    await ada.close();
    await ben.close();
  },
);

test('[THREADLAST4] consecutive replies of one author are grouped, and a line names each day', how, async () => {
  const { ada, ben } = await pair();
  for (const text of ['One', 'Two', 'Three', 'Four']) await ben.reply(text);
  await ada.reply('Five');
  await ada.sees(['One', 'Two', 'Three', 'Four', 'Five']);
  const shown = () =>
    ada.page
      .locator('.items > li')
      .evaluateAll((items) =>
        items.map((item) =>
          item.matches('.day-line')
            ? `-- ${item.textContent}`
            : `${item.classList.contains('follows') ? '+' : ''}${item.querySelector('.words')?.textContent}`,
        ),
      );
  assert.deepEqual(await shown(), ['-- Today', 'One', '+Two', '+Three', '+Four', 'Five']);
  // A screen reader gets the name of each.
  assert.match((await ada.page.locator('.follows').first().innerText()) ?? '', /Two/);

  // Two of them were written on earlier days.
  const [, threadId] = /t\/([\w-]+)/.exec(ada.page.url()) ?? [];
  const year = new Date().getFullYear() - 2;
  await ada.page.route(`**/api/threads/${threadId}/replies*`, async (route) => {
    const answer = await route.fetch();
    const page = await answer.json();
    if (page.replies[0]) page.replies[0].created_at = `${year}-03-04T12:00:00.000Z`;
    if (page.replies[1]) page.replies[1].created_at = new Date(Date.now() - 86_400_000).toISOString();
    await route.fulfill({ response: answer, json: page });
  });
  await ada.page.reload();
  await ada.sees(['One', 'Two', 'Three', 'Four', 'Five']);
  const days = await shown();
  assert.match(days[0] ?? '', new RegExp(`^-- .*${year}`));
  assert.deepEqual(days.slice(1), ['One', '-- Yesterday', 'Two', '-- Today', 'Three', '+Four', 'Five']);
  assert.match((await ada.page.locator('.items time').first().textContent()) ?? '', new RegExp(String(year)));
  await shoot(ada, 'days');
  await ada.close();
  await ben.close();
});

test('[THREADLAST5] on a phone the bar shows the title of the open thread, and on a wide screen the group', how, async () => {
  const { ada, ben } = await pair();
  const heading = ada.page.getByRole('heading', { level: 1 });
  assert.equal(await heading.innerText(), 'The Lovelaces');
  await ada.page.setViewportSize({ width: 360, height: 740 });
  assert.equal(await heading.innerText(), 'Sunday');
  await ada.page.getByRole('link', { name: 'Back' }).click();
  await until(
    async () => (await heading.innerText()) === 'The Lovelaces',
    () => heading.innerText(),
  );
  await ada.close();
  await ben.close();
});

test('[LAST6] a list of threads and a thread that could not be loaded are loaded again, without a reload', how, async () => {
  const { ada, ben } = await pair();
  await ben.reply('Are you there?');
  await ada.sees(['Are you there?']);
  const { page } = ada;
  let lies = 0;
  await page.route(/\/api\/(groups\/[\w-]+\/threads|threads\/[\w-]+\/replies)\?/, (route) => {
    lies++;
    return route.fulfill({ status: 502, contentType: 'text/html', body: '<h1>Bad gateway</h1>' });
  });
  await page.reload();
  await page.getByText('The threads could not be loaded.').waitFor();
  await page.unroute(/\/api\/(groups\/[\w-]+\/threads|threads\/[\w-]+\/replies)\?/);
  await page.getByRole('link', { name: /^Sunday/ }).waitFor({ timeout: 120_000 });
  await ada.sees(['Are you there?'], 40_000);
  assert.ok(lies > 0);

  await page.getByRole('link', { name: 'New thread' }).click();
  await page.reload();
  await page.getByRole('link', { name: /^Sunday/ }).waitFor();
  await page.route(/\/replies\?/, (route) => route.fulfill({ status: 502, contentType: 'text/html', body: '<h1>Bad gateway</h1>' }));
  await ada.openThread('Sunday');
  await page.getByText('The replies could not be loaded.').waitFor();
  await page.unroute(/\/replies\?/);
  await ada.sees(['Are you there?'], 40_000);
  await ada.close();
  await ben.close();
});
