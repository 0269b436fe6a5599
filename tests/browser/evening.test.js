/** A family evening: two browsers, one real server that is killed in between, and what the server knows afterwards. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { missing as noChromium, launch, Person, until } from './chromium.js';
import { missing as noServer, Server } from './server.js';

/** @typedef {import('playwright-core').Browser} Browser */

const skip = noServer || noChromium;

/** Everything that is written in the evening; none of it may be found at the server. */
const GROUP = 'Die Quittenbande';
const TITLE = 'Sonntag am Weiher';
const BODY = 'Wer bringt den **Pflaumenkuchen** mit? Der Zug nach Altmühldorf fährt um 9:12.';
const REPLIES = [
  'Wir kommen zu viert, mit Gummistiefeln!',
  'Dann backe ich zwei Bleche Streusel.',
  'Hermine fragt nach den kleinen Paddeln.',
];
const MIDSENTENCE = 'Angefangen vor dem Stromausfall, beendet danach.';
const OFFLINE = 'Geschrieben ohne Leitung am Küchentisch.';
const HIDDEN = ['Erstens Wollsocken.', 'Zweitens Taschenlampe.', 'Drittens Mundharmonika.'];
const PHOTO = 'weiherfoto.png';

/** @type {Server} */
let server;
/** @type {Browser} */
let browser;

before(async () => {
  if (skip) return;
  server = await new Server().start();
  browser = await launch();
});

after(async () => {
  await browser?.close();
  for (const one of Server.running) await one.close();
});

/** A picture of the test's own. @param {Person} person @returns {Promise<Buffer>} */
async function picture({ page }) {
  const address = await page.evaluate(() => {
    const canvas = document.createElement('canvas');
    [canvas.width, canvas.height] = [320, 200];
    const brush = /** @type {CanvasRenderingContext2D} */ (canvas.getContext('2d'));
    for (let x = 0; x < 320; x += 8) {
      brush.fillStyle = `hsl(${x} 60% ${30 + (x % 50)}%)`;
      brush.fillRect(x, 0, 8, 200);
    }
    return canvas.toDataURL('image/png');
  });
  return Buffer.from(address.split(',')[1] ?? '', 'base64');
}

test('[PAGE1] an evening: every message arrives once and in order on every screen, and the server stores no plain text', {
  skip,
  timeout: 900_000,
}, async () => {
  const ada = await Person.sitDown(browser, 'ada');
  const ben = await Person.sitDown(browser, 'ben', { viewport: { width: 360, height: 740 } });

  await ada.signUp(server.url);
  await ada.makeGroup(GROUP);
  const link = await ada.inviteLink();
  assert.match(link, /#join=[A-Z0-9]{8}\.[\w-]{45}$/);

  // Ben opens the link, makes an account, and is in; the key has left his address.
  await ben.signUp(link);
  await ben.page.getByRole('heading', { level: 1, name: GROUP }).waitFor();
  assert.ok(!ben.page.url().includes('join='), ben.page.url());

  // A thread appears on the other screen by itself.
  await ada.beginThread(TITLE, BODY);
  await ada.page.getByRole('heading', { level: 2, name: TITLE }).waitFor();
  await ben.openThread(TITLE);
  assert.equal(await ben.page.locator('.opening .words strong').textContent(), 'Pflaumenkuchen');

  // Typing is seen while it lasts, and replies go both ways.
  await ben.composer.pressSequentially('Wir');
  await ada.page.locator('.thread > .typing', { hasText: 'ben is writing…' }).waitFor();
  await ben.reply(REPLIES[0] ?? '');
  await ada.sees(REPLIES.slice(0, 1));
  assert.equal(await ada.page.locator('.thread > .typing').textContent(), '');
  await ada.reply(REPLIES[1] ?? '');
  await ben.sees(REPLIES.slice(0, 2));
  await ben.reply(REPLIES[2] ?? '');
  await ada.sees(REPLIES);

  // A photo, encrypted here and shown there.
  const photo = await picture(ada);
  await ada.page.locator('.composer input[type=file]').setInputFiles({ name: PHOTO, mimeType: 'image/png', buffer: photo });
  const shown = ben.page.getByRole('img', { name: PHOTO });
  await shown.waitFor();
  await until(
    () => shown.evaluate((image) => /** @type {HTMLImageElement} */ (image).naturalWidth === 320),
    () => 'the photo was not decrypted',
  );
  let talk = [...REPLIES, PHOTO];
  await ada.sees(talk);
  await ben.sees(talk);

  // The server is killed in the middle of a sentence; what is written meanwhile is kept and sent later.
  await ada.composer.pressSequentially(MIDSENTENCE.slice(0, 20));
  await server.kill();
  await ada.page.locator('.banner').waitFor();
  await ada.composer.pressSequentially(MIDSENTENCE.slice(20));
  await ada.composer.press('Enter');
  await ada.sees([...talk, `(waiting) ${MIDSENTENCE}`]);
  await ben.page.locator('.banner').waitFor();
  await ben.reply(OFFLINE);
  await ben.sees([...talk, `(waiting) ${OFFLINE}`]);
  await server.start();
  await ada.isConnected();
  await ben.isConnected();
  await until(
    async () => (await ada.talk()).length === talk.length + 2,
    async () => `ada sees ${JSON.stringify(await ada.talk())}`,
  );
  const both = (await ada.talk()).slice(talk.length);
  assert.deepEqual([...both].sort(), [MIDSENTENCE, OFFLINE].sort());
  talk = [...talk, ...both];
  await ada.sees(talk);
  await ben.sees(talk);

  // Ben's tab is hidden and put to sleep, as phones do; then it is shown again.
  const sleep = await ben.page.context().newCDPSession(ben.page);
  await ben.page.evaluate(() => {
    Object.defineProperty(document, 'visibilityState', { configurable: true, get: () => 'hidden' });
    document.dispatchEvent(new Event('visibilitychange'));
  });
  await sleep.send('Page.setWebLifecycleState', { state: 'frozen' });
  for (const text of HIDDEN) await ada.reply(text);
  talk = [...talk, ...HIDDEN];
  await ada.sees(talk);
  await sleep.send('Page.setWebLifecycleState', { state: 'active' });
  await ben.page.evaluate(() => {
    Object.defineProperty(document, 'visibilityState', { configurable: true, get: () => 'visible' });
    document.dispatchEvent(new Event('visibilitychange'));
  });
  await ben.sees(talk);

  // What a fresh page reads from the server is the same, to the word.
  for (const person of [ada, ben]) {
    await person.page.reload();
    await person.page.getByRole('heading', { level: 2, name: TITLE }).waitFor();
    await person.sees(talk);
  }
  const card = ada.page.getByRole('region', { name: 'Threads' }).getByRole('link', { name: TITLE });
  await until(
    async () => /8 replies/.test((await card.textContent()) ?? ''),
    async () => `the card says ${await card.textContent()}`,
  );

  assert.deepEqual([...ada.complaints, ...ben.complaints], []);
  await ada.close();
  await ben.close();
  await server.stop();

  // The server's files and lines, after all of it.
  const raw = Buffer.from(link.slice(-45, -2), 'base64url');
  const words = [GROUP, TITLE, BODY, ...REPLIES, MIDSENTENCE, OFFLINE, ...HIDDEN, PHOTO]
    .flatMap((text) => text.split(/[^\p{L}]+/u))
    .filter((word) => word.length > 5);
  const needles = [
    ...[...new Set(words)].flatMap(spellings),
    raw,
    Buffer.from(link.slice(-45, -2)),
    Buffer.from(raw.toString('hex')),
    photo.subarray(64, 128),
  ];
  const kept = [...(await server.files()), /** @type {[string, Buffer]} */ (['the log', Buffer.from(server.lines.join('\n'))])];
  assert.ok(
    kept.some(([name, bytes]) => name.endsWith('.db') && bytes.includes('ada')),
    `no database among ${kept.map(([name]) => name)}`,
  );
  const opened = server.lines.filter((line) => line.includes('connection opened')).length;
  assert.ok(opened >= 3, `the log has ${opened} connections of three people: ${server.lines.length} lines`);
  for (const [name, bytes] of kept) for (const needle of needles) assert.ok(!bytes.includes(needle), `${name} holds ${needle}`);
});

/**
 * How a word would appear in a file if somebody forgot to encrypt it: as it is, in UTF-16, and in base64 at each of its three places.
 *
 * @param {string} word
 */
function spellings(word) {
  const bytes = Buffer.from(word);
  const coded = [0, 1, 2].map((shift) => {
    const text = Buffer.concat([Buffer.alloc(shift), bytes])
      .toString('base64')
      .replace(/=+$/, '');
    // The letters at both ends also depend on what stands beside the word.
    return Buffer.from(text.slice(shift ? shift + 1 : 0, -1));
  });
  return [bytes, Buffer.from(word, 'utf16le'), ...coded];
}

test("[PAGE2] the search for plain text in the server's files finds text that is there", () => {
  for (const shift of ['', 'x', 'xy']) {
    const stored = Buffer.from(Buffer.from(`${shift}…ein Pflaumenkuchen!`).toString('base64'));
    assert.ok(
      spellings('Pflaumenkuchen').some((needle) => stored.includes(needle)),
      shift,
    );
  }
});
