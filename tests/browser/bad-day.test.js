/** The page in bad conditions: full or no storage, a wrong clock, larger text, an address of another group, a new version. */
import assert from 'node:assert/strict';
import { createServer, request as ask } from 'node:http';
import { after, before, test } from 'node:test';
import { missing as noChromium, launch, Person, until } from './chromium.js';
import { missing as noServer, Server } from './server.js';

/** @typedef {import('playwright-core').Browser} Browser */
/** @typedef {import('playwright-core').BrowserContextOptions} ContextOptions */

/** Long, for a machine that is busy with other tests. */
const how = { skip: noServer || noChromium, timeout: 900_000 };
const PHONE = { viewport: { width: 360, height: 740 } };

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

/** @param {string} name @param {ContextOptions} [options] */
const sitDown = (name, options) => Person.sitDown(browser, `${name}_${++count}`, options);

/** A person with an account and a group. @param {string} name @param {ContextOptions} [options] */
async function member(name, options) {
  const person = await sitDown(name, options);
  await person.signUp(server.url);
  await person.makeGroup('The Lovelaces');
  return person;
}

/** Leave no room in this person's localStorage. @param {Person} person */
const fillUp = ({ page }) =>
  page.evaluate(() => {
    for (let text = 'x'.repeat(1 << 20), at = 0; text; )
      try {
        localStorage.setItem(`full${at++}`, text);
      } catch {
        text = text.slice(0, text.length >> 1);
      }
  });

/** @param {Person} person */
async function enter({ page, name, password }) {
  await page.getByLabel('Name').fill(name);
  await page.getByLabel('Password', { exact: true }).fill(password);
  await page.getByRole('button', { name: 'Create my account' }).click();
}

// Addresses

test('[PAGE21] an invitation asks a logged-in member before it joins a group, and is removed from the address at once', how, async () => {
  const ada = await member('ada');
  for (const [at, screen] of [{}, PHONE].entries()) {
    const link = await ada.inviteLink();
    const ben = await sitDown('ben', screen);
    await ben.signUp(server.url);
    await ben.makeGroup('Of my own');
    // In the open page, as from its address line; and in a page that opens with it, as from a mail.
    if (at) await ben.page.goto('about:blank');
    await ben.page.goto(link);
    await ben.page.getByRole('dialog').getByText('all members of the group see your name').waitFor();
    assert.ok(!ben.page.url().includes('join='), ben.page.url());
    await ada.page.getByRole('button', { name: /^Members: [12] members?,/ }).waitFor();
    await ben.page.getByRole('button', { name: 'Join the group' }).click();
    await ben.page.getByRole('heading', { level: 1, name: 'The Lovelaces' }).waitFor();
    assert.ok(!ben.page.url().includes('join='), ben.page.url());
    await ben.page.goBack();
    assert.ok(!ben.page.url().includes('join='), ben.page.url());
    assert.deepEqual(ben.complaints, []);
    await ben.close();
  }
  await ada.page.goto('about:blank');
  await ada.close();
});

test(
  '[PAGE22] a phone without a connection shows why a view is empty, at any address, and a thread of a lost group is closed',
  how,
  async () => {
    const own = await new Server().start();
    const ada = await sitDown('ada');
    await ada.signUp(own.url);
    await ada.makeGroup('The Lovelaces');
    const ben = await sitDown('ben', PHONE);
    await ben.signUp(await ada.inviteLink());
    await ada.beginThread('Boats', 'two of them');
    await ben.openThread('Boats');
    await ben.page.evaluate(() => navigator.serviceWorker.ready);

    await ada.page.getByRole('button', { name: /^Members/ }).click();
    await ada.page.getByRole('button', { name: `Remove ${ben.name}` }).click();
    await ada.page
      .getByRole('dialog')
      .getByRole('button', { name: `Remove ${ben.name}` })
      .click();
    await ben.page.getByText('You are no longer a member of The Lovelaces.').waitFor();
    await ben.page.getByText('You are not in a group yet').waitFor();
    await ben.makeGroup('Of my own');
    await ben.beginThread('Alone', 'for now');
    await ben.page.locator('.opening h2').waitFor();
    await own.kill();
    await ben.page.reload();
    await ben.page.getByText('Your groups appear here when it is back.').waitFor();
    await own.start();
    await ben.isConnected();
    await ben.page.getByRole('heading', { level: 2, name: 'Alone' }).waitFor();
    assert.deepEqual([...ada.complaints, ...ben.complaints], []);
    for (const person of [ada, ben]) await person.close();
    await own.close();
  },
);

// The reader's eyes

test("[PAGE23] doubling the browser's font size doubles all text, and nothing is cut off", how, async () => {
  for (const screen of [PHONE, {}]) {
    const ada = await sitDown('ada', screen);
    const { page } = ada;
    const devtools = await page.context().newCDPSession(page);
    await devtools.send('Page.setFontSizes', { fontSizes: { standard: 32 } });
    await ada.signUp(server.url);
    await ada.makeGroup('The Lovelaces of Hawthorne');
    await ada.beginThread('Sunday at the lake', 'Who comes along?');
    await page.locator('.opening h2').waitFor();
    await ada.reply('I do.');
    await ada.sees(['I do.']);
    await page.getByRole('button', { name: /^What the server sees/ }).click();
    await page.locator('.frames li').first().waitFor();
    const found = await page.evaluate(() => ({
      words: getComputedStyle(/** @type {Element} */ (document.querySelector('.items .words'))).fontSize,
      // A word is as high as one line, or it was broken between its letters.
      broken: [...document.querySelectorAll('.bar button, .threads h2, .primary')]
        .filter((node) => node.checkVisibility() && node.getBoundingClientRect().height > 110)
        .map((node) => node.textContent),
      frames: document.querySelector('.sees .scroll')?.clientHeight ?? 0,
    }));
    assert.equal(found.words, '32px');
    assert.deepEqual(found.broken, []);
    assert.ok(found.frames > 100, `the frames have ${found.frames} px`);
    assert.deepEqual(await cutOff(ada), []);
    assert.deepEqual(ada.complaints, []);
    await ada.close();
  }
});

/** What can be scrolled sideways, and is no code. @param {Person} person @returns {Promise<string[]>} */
const cutOff = ({ page }) =>
  page.evaluate(() =>
    [...document.querySelectorAll('body, body *:not(pre, input, textarea, .sr, .sr *)')]
      .filter((node) => node.scrollWidth > node.clientWidth + 1 && /auto|scroll/.test(getComputedStyle(node).overflowX))
      .map((node) => `${node.tagName}.${node.className}: ${node.scrollWidth} in ${node.clientWidth}`),
  );

test(
  '[PAGE24] a photo wider than the phone does not widen the page, and the end of a thread stays visible when the keyboard opens',
  how,
  async () => {
    const ada = await member('ada', PHONE);
    const { page } = ada;
    await ada.beginThread('Photos', 'wide ones');
    await page.locator('.opening h2').waitFor();
    const address = await page.evaluate(() => {
      const canvas = Object.assign(document.createElement('canvas'), { width: 1600, height: 900 });
      canvas.getContext('2d')?.fillRect(0, 0, 1600, 900);
      return canvas.toDataURL('image/png');
    });
    const buffer = Buffer.from(address.split(',')[1] ?? '', 'base64');
    await page
      .locator('.composer input[type=file]')
      .setInputFiles({ name: 'a-name-without-any-place-to-break-it_2026-08-14_11-12-13.png', mimeType: 'image/png', buffer });
    await page.locator('.frame img').waitFor();
    for (let at = 0; at < 6; at++) await ada.reply(`Line ${at}`);
    const last = page.locator('.items > li', { hasText: 'Line 5' });
    await last.waitFor();
    assert.deepEqual(await cutOff(ada), []);

    await page.setViewportSize({ width: 360, height: 400 });
    await until(
      () =>
        last.evaluate(
          (node) =>
            node.getBoundingClientRect().bottom <= /** @type {Element} */ (document.querySelector('.composer')).getBoundingClientRect().top,
        ),
      () => 'the last reply is behind the keyboard',
    );
    assert.deepEqual(ada.complaints, []);
    await ada.close();
  },
);

test('[PAGE25] Escape closes a dialog, and the focus returns to the control that opened it', how, async () => {
  const ada = await member('ada');
  const { page } = ada;
  /** @param {import('playwright-core').Locator} locator */
  const focused = (locator) =>
    until(
      () => locator.evaluate((node) => node === document.activeElement),
      () => `${locator} has not the focus`,
    );
  for (const name of [/^Members/, /^Invite$/, /^Account/, /^New group$/, /^Join a group$/]) {
    const opener = page.getByRole('button', { name });
    await opener.focus();
    await page.keyboard.press('Enter');
    await page.getByRole('dialog').waitFor();
    await page.keyboard.press('Escape');
    await page.getByRole('dialog').waitFor({ state: 'detached' });
    await focused(opener);
  }
  const eye = page.getByRole('button', { name: 'What the server sees', exact: true });
  await eye.focus();
  await page.keyboard.press('Enter');
  await page.getByRole('button', { name: 'Drop the connection' }).focus();
  await page.keyboard.press('Escape');
  await page.getByRole('complementary', { name: 'What the server sees' }).waitFor({ state: 'hidden' });
  await focused(eye);
  assert.deepEqual(ada.complaints, []);
  await ada.close();
});

// Storage

test('[PAGE26] a browser that cannot store keys gets an error before an account is created', how, async () => {
  const ada = await sitDown('ada');
  const { page } = ada;
  let signups = 0;
  page.on('request', (request) => void (signups += Number(request.url().endsWith('/api/signup'))));
  await page.addInitScript(() => {
    indexedDB.open = () => {
      throw new DOMException('The user denied permission to access the database.', 'SecurityError');
    };
  });
  await page.goto(server.url);
  await enter(ada);
  await page.getByRole('alert').filter({ hasText: 'does not let the page store its keys' }).waitFor();
  assert.equal(signups, 0);
  assert.deepEqual(ada.complaints, []);
  await ada.close();
});

test('[PAGE27] a browser that blocks storage, from the start or later, shows an error instead of an empty page', how, async () => {
  const ada = await sitDown('ada');
  await ada.page.addInitScript(() => {
    Object.defineProperty(globalThis, 'localStorage', {
      get() {
        throw new DOMException('denied', 'SecurityError');
      },
    });
  });
  await ada.page.goto(server.url);
  await ada.page.getByRole('alert').filter({ hasText: 'blocks cookies and site data' }).waitFor();

  const ben = await member('ben');
  await ben.page.addInitScript(() => {
    indexedDB.open = () => {
      throw new DOMException('denied', 'SecurityError');
    };
  });
  await ben.page.reload();
  await ben.page.getByRole('alert').filter({ hasText: 'does not let the page store its keys' }).waitFor();
  assert.deepEqual([...ada.complaints, ...ben.complaints], []);
  await ada.close();
  await ben.close();
});

test('[PAGE28] with full storage, sign-up, reading and writing still work, and the page says what is not saved', how, async () => {
  const ada = await sitDown('ada');
  const { page } = ada;
  await page.goto(server.url);
  await fillUp(ada);
  await enter(ada);
  await page.getByRole('button', { name: `Account of ${ada.name}` }).waitFor();
  await ada.makeGroup('No room');
  await page.getByText('The storage of this browser is full').first().waitFor();
  await ada.beginThread('Written', 'all the same');
  await page.locator('.opening h2').waitFor();
  await ada.reply('And answered.');
  await ada.sees(['And answered.']);
  assert.equal(await page.getByText('could not be loaded').count(), 0);
  assert.deepEqual(ada.complaints, []);
  await ada.close();
});

// Tabs

test(
  '[PAGE29] another tab sends what a closed tab could not send when the connection is back; a thread read in one tab is read in all',
  how,
  async () => {
    const ada = await member('ada');
    const context = ada.page.context();
    await ada.beginThread('Two tabs', 'of one reader');
    await ada.page.locator('.opening h2').waitFor();
    const other = new Person(ada.name, await context.newPage());
    await other.page.goto(ada.page.url());
    await other.page.locator('.opening h2').waitFor();
    const ben = await sitDown('ben');
    await ben.signUp(await ada.inviteLink());
    await ben.openThread('Two tabs');

    // Both look elsewhere; one of them reads the news.
    for (const { page } of [ada, other]) await page.getByRole('link', { name: 'New thread' }).click();
    await ben.reply('Something new.');
    for (const { page } of [ada, other]) await page.getByRole('link', { name: /Two tabs.* \d+ new/ }).waitFor();
    await ada.page.getByRole('link', { name: /Two tabs/ }).click();
    await other.page.getByRole('link', { name: /Two tabs.* \d+ new/ }).waitFor({ state: 'detached' });
    await other.openThread('Two tabs');

    await context.setOffline(true);
    for (const { page } of [ada, other]) {
      await page.getByRole('button', { name: 'What the server sees', exact: true }).click();
      // A click on the disabled button does nothing: the page's own probe may have dropped the connection already.
      await page.getByRole('button', { name: 'Drop the connection' }).evaluate((button) => /** @type {HTMLElement} */ (button).click());
      await page.getByText('You are offline.').waitFor();
    }
    await ada.reply('Left behind.');
    await ada.sees(['Something new.', '(waiting) Left behind.']);
    await ada.page.close();
    await context.setOffline(false);
    await other.isConnected();
    await ben.sees(['Something new.', 'Left behind.']);
    await other.sees(['Something new.', 'Left behind.']);
    assert.deepEqual([...ada.complaints, ...ben.complaints], []);
    await other.close();
    await ben.close();
  },
);

// Time

test('[PAGE30] a clock that is wrong by a day changes neither the order nor the content', how, async () => {
  const ada = await member('ada');
  await ada.beginThread('Clocks', 'tick');
  await ada.page.locator('.opening h2').waitFor();
  const link = await ada.inviteLink();
  for (const days of [1, -1]) {
    const ben = await sitDown('ben');
    await ben.page.addInitScript((shiftMs) => {
      const Right = Date;
      globalThis.Date = /** @type {any} */ (
        class extends Right {
          /** @param {any} value */
          constructor(value = Right.now() + shiftMs) {
            super(value);
          }
          static now() {
            return Right.now() + shiftMs;
          }
        }
      );
    }, days * 86_400_000);
    await ben.signUp(link);
    await ben.openThread('Clocks');
    const had = await ada.talk();
    await ben.reply(`Written ${days} days off.`);
    await ada.sees([...had, `Written ${days} days off.`]);
    await ada.reply('Written in time.');
    const all = [...had, `Written ${days} days off.`, 'Written in time.'];
    await ben.sees(all);
    await ben.page.reload();
    await ben.page.getByRole('heading', { level: 2, name: 'Clocks' }).waitFor();
    await ben.sees(all);
    assert.deepEqual(ben.complaints, []);
    await ben.close();
  }
  assert.deepEqual(ada.complaints, []);
  await ada.close();
});

// A new version

test(
  '[PAGE31] a reload shows the new version of the page, also when the disk is full, and the old version without a server',
  how,
  async () => {
    let version = 1;
    // The server behind it is the real one; what it serves of the page bears a number.
    const front = createServer((request, response) => {
      const onward = ask(
        {
          port: server.port,
          path: request.url,
          method: request.method,
          headers: { ...request.headers, 'accept-encoding': 'identity', 'if-none-match': '' },
        },
        (answer) => {
          /** @type {Buffer[]} */
          const parts = [];
          const headersOf = answer.headers;
          answer.on('data', (part) => parts.push(part));
          answer.on('end', () => {
            if (headersOf['x-orbital-page']) headersOf['x-orbital-page'] = `version-${version}`;
            if (request.url === '/js/main.js') parts.push(Buffer.from(`\ndocument.documentElement.dataset.version = '${version}';`));
            const body = Buffer.concat(parts);
            const { 'content-length': _, etag, ...headers } = answer.headers;
            response.writeHead(answer.statusCode ?? 500, { ...headers, 'content-length': body.length }).end(body);
          });
        },
      );
      request.pipe(onward);
    });
    await new Promise((resolve) => front.listen(0, '127.0.0.1', () => resolve(0)));
    const { port } = /** @type {import('node:net').AddressInfo} */ (front.address());
    const ada = await sitDown('ada');
    const { page } = ada;
    const shows = (/** @type {string} */ expected) =>
      until(
        async () => (await page.locator('html').getAttribute('data-version')) === expected,
        async () => `the page is of version ${await page.locator('html').getAttribute('data-version')}, not ${expected}`,
      );
    await page.goto(`http://localhost:${port}/`);
    await shows('1');
    await page.evaluate(() => navigator.serviceWorker.ready);
    await until(
      () => page.evaluate(() => Boolean(navigator.serviceWorker.controller)),
      () => 'the service worker does not serve',
    );

    version = 2;
    await page.reload();
    await shows('2');
    const devtools = await page.context().newCDPSession(page);
    await devtools.send('Storage.overrideQuotaForOrigin', { origin: `http://localhost:${port}`, quotaSize: 1 });
    version = 3;
    await page.reload();
    await shows('3');

    front.closeAllConnections();
    await new Promise((resolve) => front.close(resolve));
    await page.reload();
    await shows('2');
    await page.locator('.entry-card form').waitFor();
    assert.deepEqual(ada.complaints, []);
    await ada.close();
  },
);
