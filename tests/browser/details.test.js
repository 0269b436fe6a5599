/** Photos, keyboard, print and other screens. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { missing as noChromium, inPage, launch, Person, until } from './chromium.js';
import { missing as noServer, Server } from './server.js';

/** @typedef {import('playwright-core').Browser} Browser */

const how = { skip: noServer || noChromium, timeout: 900_000 };

/** @type {Server} */
let server;
/** @type {Browser} */
let browser;
/** @type {Person} */
let ada;

before(async () => {
  if (how.skip) return;
  server = await new Server().start();
  browser = await launch();
  ada = await Person.sitDown(browser, 'ada');
  await ada.signUp(server.url);
  await ada.makeGroup('The Lovelaces');
});

after(async () => {
  await browser?.close();
  for (const one of Server.running) await one.close();
});

/** @param {string} title */
async function thread(title) {
  await ada.beginThread(title, 'All of it');
  await ada.page.getByRole('heading', { level: 2, name: title }).waitFor();
}

/** Attach files to the open thread. @param {{name: string, mimeType: string, buffer: Buffer}[]} files */
const attach = (files) => ada.page.locator('.composer input[type=file]').setInputFiles(files);

/** @param {string} name @param {number} width @param {number} height */
async function picture(name, width, height) {
  const url = await ada.page.evaluate(
    ([w = 1, high = 1]) => {
      const canvas = Object.assign(document.createElement('canvas'), { width: w, height: high });
      const pen = /** @type {CanvasRenderingContext2D} */ (canvas.getContext('2d'));
      pen.fillStyle = '#3a6';
      pen.fillRect(0, 0, w, high);
      return canvas.toDataURL();
    },
    [width, height],
  );
  return { name, mimeType: 'image/png', buffer: Buffer.from(url.split(',')[1] ?? '', 'base64') };
}

test('[DTL1] a portrait picture is shown completely, and a small one in its original size', how, async () => {
  await thread('Portrait');
  await attach([await picture('tall.png', 600, 2000), await picture('tiny.png', 32, 32)]);
  const shown = (/** @type {string} */ name) =>
    inPage(ada.page.getByRole('img', { name }), (image) => {
      const { height, width } = image.getBoundingClientRect();
      const frame = /** @type {HTMLElement} */ (image.closest('.frame'));
      return { height, width, frame: frame.clientHeight, frameWidth: frame.clientWidth, fit: getComputedStyle(image).objectFit };
    });
  const tall = await shown('tall.png');
  assert.ok(tall.height > 100 && tall.height <= tall.frame, JSON.stringify(tall));
  assert.equal(tall.fit, 'scale-down');
  const tiny = await shown('tiny.png');
  assert.ok(tiny.frameWidth <= 160, JSON.stringify(tiny));
});

test('[DTL2] pictures that are selected together arrive in the order of selection', how, async () => {
  await thread('In order');
  const names = Array.from({ length: 8 }, (_, i) => `${i}.bin`);
  // The first ones are the largest, so that they take longest.
  await attach(names.map((name, i) => ({ name, mimeType: 'application/x-unknown', buffer: Buffer.alloc(2_000_000 / (i + 1), i) })));
  await until(
    async () => (await ada.page.locator('.item figcaption').count()) === names.length,
    () => 'the pictures did not come',
    60_000,
  );
  assert.deepEqual(await ada.talk(), names);
});

test('[DTL3] a file is shown as a file, and an opened picture stays visible after the server deleted it', how, async () => {
  await thread('Files');
  await attach([
    { name: 'letter.pdf', mimeType: 'application/pdf', buffer: Buffer.from('%PDF-1.4 a letter') },
    await picture('lake.png', 600, 400),
  ]);
  const { page } = ada;
  await page.getByRole('button', { name: /^Download \(1 kB\)/ }).click();
  await page.getByRole('link', { name: 'Save letter.pdf' }).waitFor();
  const lake = page.getByRole('img', { name: 'lake.png' });
  await lake.waitFor();
  await page.evaluate(async () => {
    const [, id] = /t\/([\w-]+)/.exec(location.hash) ?? [];
    const { token } = JSON.parse(localStorage.getItem('orbital-session') ?? '');
    const headers = { Authorization: `Bearer ${token}` };
    const { media } = await (await fetch(`/api/threads/${id}`, { headers })).json();
    for (const { media_id } of media) await fetch(`/api/media/${media_id}`, { method: 'DELETE', headers });
  });
  await ada.reply('It is gone from the server');
  await ada.page.locator('.items').getByText('It is gone from the server').waitFor();
  assert.equal(await lake.isVisible(), true);
  const save = await page.locator('figcaption a').first().boundingBox();
  assert.ok(save && save.width >= 44 && save.height >= 32, JSON.stringify(save));
});

test('[DTL4] one Tab stop and Enter lead to the reply field by keyboard', how, async () => {
  await thread('Keys');
  const { page } = ada;
  await page.evaluate(() => {
    document.body.tabIndex = -1;
    document.body.focus();
  });
  await page.keyboard.press('Tab');
  assert.equal(await page.evaluate(() => document.activeElement?.textContent), 'Skip to the conversation');
  await page.keyboard.press('Enter');
  assert.equal(await page.evaluate(() => document.activeElement?.getAttribute('aria-label')), 'Your reply');
});

test('[DTL5] forced colours mark the selection; print shows the whole conversation and no controls', how, async () => {
  await thread('Print');
  for (let i = 0; i < 12; i++) await ada.reply(`Line ${i}\n\nand more`);
  const { page } = ada;
  await page.locator('.items').getByText('Line 11').waitFor();
  await page.emulateMedia({ forcedColors: 'active' });
  assert.match(await inPage(page.locator('.card[aria-current]'), (card) => getComputedStyle(card).outline), /solid 3px|3px solid/);
  await page.emulateMedia({ forcedColors: 'none', media: 'print' });
  assert.equal(await page.locator('.composer').isVisible(), false);
  assert.equal(await page.locator('.bar').isVisible(), false);
  const scroll = await page.locator('.thread .scroll').evaluate((node) => [node.scrollHeight, node.clientHeight]);
  assert.equal(scroll[0], scroll[1], 'nothing is cut off');
  await page.emulateMedia({ media: 'screen' });
});

test('[DTL6] without scripts the page shows what it requires', how, async () => {
  const context = await browser.newContext({ javaScriptEnabled: false, viewport: { width: 360, height: 640 } });
  const page = await context.newPage();
  await page.goto(server.url);
  const box = await page.locator('noscript').boundingBox();
  assert.ok(box && box.y >= 0 && box.y + box.height <= 640, JSON.stringify(box));
  await context.close();
});
