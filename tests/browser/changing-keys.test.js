/** Groups of version 2 in the page: keys that change with every message. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { after, before, test } from 'node:test';
import { launch, missing as noChromium, Person, until } from './chromium.js';
import { missing as noServer, Server } from './server.js';

const how = { skip: noServer || noChromium, timeout: 180_000 };
const FOUNDED = { changing: true };
/** What stands for a text from before a member joined. */
const UNREAD = 'This cannot be read here yet: its key has not arrived.';

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
    await cleo.sees([UNREAD, 'Welcome']);

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

  // A browser whose keys are deleted keeps nothing of the group.
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

test(
  '[CHGKEY5] another browser of a member waits until a browser that reads the group admits it by its number; then it reads the past, writes, and can be removed; a safety number is the same for two people and is marked as verified',
  how,
  async () => {
    const { ada, ben } = await family();
    await ada.beginThread('Plans', 'What we do');
    await ben.openThread('Plans');
    await ben.reply('Before the second browser');
    await ada.sees(['Before the second browser']);
    const link = await ben.inviteLink();

    const second = await Person.sitDown(browser, ben.name);
    await second.logIn(server.url);
    await second.page.locator('.threads').getByRole('textbox').fill(link);
    await second.page.getByRole('button', { name: 'Unlock' }).click();
    const waits = second.page.getByRole('alert', { name: 'This browser in the group' });
    await waits.getByText('This browser is not admitted yet').waitFor();
    const [number = ''] = /(\d{5} ){3}\d{5}/.exec((await waits.textContent()) ?? '') ?? [];
    assert.ok(number);
    await second.openThread('Cannot be opened');
    await second.sees([UNREAD]);
    // Nobody else admits it.
    await ada.page.getByRole('button', { name: /^Members/ }).click();
    await ada.page.getByRole('button', { name: `Devices of ${ben.name}` }).click();
    await ada.page.getByText(`${ben.name} can admit it on another device.`, { exact: false }).waitFor();
    const safety = (await ada.page.locator('.safety-number').textContent()) ?? '';
    assert.match(safety.replace(/\s/g, ''), /^\d{60}$/);

    await ben.page.getByText('Another browser with your account asks to read this group.').waitFor();
    await ben.page.getByRole('button', { name: 'Your devices' }).click();
    const dialog = ben.page.getByRole('dialog', { name: 'Your devices' });
    await dialog.getByText(number).waitFor();
    await dialog.getByRole('button', { name: 'Admit device 2' }).click();
    await dialog.getByText('2 devices can read this group.').waitFor();
    await waits.waitFor({ state: 'hidden' });
    await second.sees(['Before the second browser']);
    await second.page.getByRole('heading', { level: 2, name: 'Plans' }).waitFor();
    await second.reply('From the second browser');
    await ada.closesDialogs();
    await ben.closesDialogs();
    for (const one of [ada, ben, second]) await one.sees(['Before the second browser', 'From the second browser']);
    await ada.reply('For both browsers');
    for (const one of [ada, ben, second]) await one.sees(['Before the second browser', 'From the second browser', 'For both browsers']);

    // The safety number counts all devices of both, so it is another one now, and the same for both people.
    await ada.page.getByRole('button', { name: /^Members/ }).click();
    await ada.page.getByRole('button', { name: `Devices of ${ben.name}` }).click();
    const shown = ada.page.getByRole('dialog', { name: `Devices of ${ben.name}` });
    const both = await shown.locator('.safety-number').textContent();
    assert.notEqual(both, safety);
    await ben.page.getByRole('button', { name: /^Members/ }).click();
    await ben.page.getByRole('button', { name: `Devices of ${ada.name}` }).click();
    assert.equal(await ben.page.locator('.safety-number').textContent(), both);
    await shown.getByRole('button', { name: 'Mark as verified' }).click();
    await shown.getByText(/^Verified/).waitFor();
    await ada.closesDialogs();
    await ada.page.getByRole('button', { name: /^Members/ }).click();
    await ada.page
      .getByRole('button', { name: `Devices of ${ben.name}` })
      .getByText('2 devices, verified')
      .waitFor();
    await ada.closesDialogs();

    await ben.closesDialogs();
    await ben.page.getByRole('button', { name: /^Members/ }).click();
    await ben.page.getByRole('button', { name: `Devices of ${ben.name}` }).click();
    await ben.page.getByRole('button', { name: 'Remove device 2' }).click();
    await ben.page.getByText('1 device can read this group.').waitFor();
    await second.page.getByText('This browser was removed from the group').waitFor();
    await ada.reply('For one browser');
    await ben.closesDialogs();
    const all = ['Before the second browser', 'From the second browser', 'For both browsers'];
    for (const one of [ada, ben]) await one.sees([...all, 'For one browser']);
    await second.sees([...all, UNREAD]);
    assert.deepEqual(complaints([ada, ben, second]), []);
    for (const one of [ada, ben, second]) await one.close();
  },
);

test(
  '[CHGKEY6] who joins while others write reads all that is written after joining, in two tabs that enter at once; each text stands once in every page, in one order',
  how,
  async () => {
    const { ada, ben } = await family();
    await ada.beginThread('Talk', 'Of everything');
    await ben.openThread('Talk');
    await ada.openThread('Talk');
    const link = await ada.inviteLink();
    const cleo = await person('cleo', server.url);
    const tab = new Person('cleo in a second tab', await cleo.page.context().newPage());
    await tab.page.goto(server.url);

    let writing = true;
    const texts = /** @type {string[]} */ ([]);
    const write = async (/** @type {Person} */ one) => {
      for (let at = 0; writing || at < 12; at++) {
        const text = `${one.name.split('_')[0]} ${at}`;
        texts.push(text);
        await one.reply(text);
        await one.page.locator('.items > li.item', { hasText: new RegExp(`${text}$`) }).waitFor();
      }
    };
    const writers = [write(ada), write(ben)];
    const enter = async (/** @type {Person} */ one) => {
      await one.page.evaluate((fragment) => (location.hash = fragment), new URL(link).hash);
      await one.page.getByRole('button', { name: 'Join the group' }).click();
      await one.page.getByRole('heading', { level: 1, name: 'The Lovelaces' }).waitFor();
    };
    await Promise.all([enter(cleo), enter(tab)]);
    await cleo.page.locator('.thread-list a').first().click();
    await cleo.reply('cleo is here');
    texts.push('cleo is here');
    writing = false;
    await Promise.all(writers);
    await until(
      async () => (await ada.talk()).length === texts.length && (await cleo.talk()).length === texts.length,
      async () => `ada sees ${await ada.talk()}, and cleo ${await cleo.talk()}`,
    );
    const talk = await ada.talk();
    assert.deepEqual([...talk].sort(), [...texts].sort());
    await ben.sees(talk);
    await tab.page.locator('.thread-list a').first().click();
    for (const one of [cleo, tab]) {
      await until(
        async () => (await one.talk()).length === texts.length,
        async () => `${one.name} sees ${await one.talk()}`,
      );
    }
    // What was written before joining is not hers; everything behind it is, without a hole.
    const seen = await cleo.talk();
    const first = seen.findIndex((text) => text !== UNREAD);
    assert.ok(first >= 0 && seen.indexOf('cleo is here') > first);
    assert.deepEqual(seen.slice(first), talk.slice(first));
    await tab.sees(seen);
    assert.deepEqual(complaints([ada, ben, cleo]), []);
    for (const one of [ada, ben, cleo]) await one.close();
  },
);

test(
  '[CHGKEY7] a group of version 1 whose keys are renewed reads old and new in every browser: of one who is there, of one who comes back later, and of one who joins then',
  how,
  async () => {
    const ada = await person('ada', server.url);
    await ada.makeGroup('The Lovelaces');
    const link = await ada.inviteLink();
    const ben = await person('ben', link);
    const cleo = await person('cleo', link);
    await ada.beginThread('Old', 'Written with the old key');
    await ada.page.locator('.opening h2').waitFor();
    await ada.page
      .locator('.composer input[type=file]')
      .setInputFiles({ name: 'old.bin', mimeType: 'application/x-unknown', buffer: Buffer.from('an old file') });
    for (const one of [ben, cleo]) await one.openThread('Old');
    await ben.reply('Ben, before');
    for (const one of [ada, ben, cleo]) await one.sees(['old.bin', 'Ben, before']);
    const address = cleo.page.url();
    await cleo.page.goto('about:blank');

    await ada.page.getByRole('button', { name: /^Members/ }).click();
    await ada.page.getByText('Renew the keys of this group').click();
    await ada.page.getByRole('button', { name: 'Renew the keys', exact: true }).click();
    await ada.page.getByRole('dialog').waitFor({ state: 'detached' });
    await ada.reply('Ada, after');
    await ben.sees(['old.bin', 'Ben, before', 'Ada, after']);
    await ben.reply('Ben, after');
    await ada.sees(['old.bin', 'Ben, before', 'Ada, after', 'Ben, after']);
    await ada.page.getByRole('button', { name: /^Members/ }).click();
    await ada.page
      .getByRole('button', { name: `Devices of ${ben.name}` })
      .getByText('1 device')
      .waitFor();
    await ada.page
      .getByRole('button', { name: `Devices of ${cleo.name}` })
      .getByText('Admitted by nobody here')
      .waitFor();
    await ada.closesDialogs();

    // She reads what was written since the keys were renewed, and before.
    await cleo.page.goto(address);
    await cleo.sees(['old.bin', 'Ben, before', 'Ada, after', 'Ben, after']);
    await cleo.reply('Cleo, back');
    const all = ['old.bin', 'Ben, before', 'Ada, after', 'Ben, after', 'Cleo, back'];
    for (const one of [ada, ben]) await one.sees(all);
    const dora = await person('dora', await ben.inviteLink());
    await dora.openThread('Old');
    await ada.reply('For Dora, too');
    await dora.sees(['old.bin', 'Ben, before', UNREAD, UNREAD, UNREAD, 'For Dora, too']);
    for (const one of [ada, ben, cleo]) {
      await one.page.reload();
      await one.sees([...all, 'For Dora, too']);
      await one.page.getByRole('button', { name: /^Download/ }).click();
      await one.page.getByRole('link', { name: 'Save old.bin' }).waitFor();
    }
    // What is new has envelopes of version 2.
    const answers = await ada.page.evaluate(async (url) => {
      const [session] = Object.keys(localStorage).filter((name) => name === 'orbital-session');
      const { token } = JSON.parse(localStorage.getItem(session ?? '') ?? '{}');
      const thread = url.split('/').at(-1);
      const found = await fetch(`/api/threads/${thread}/replies`, { headers: { Authorization: `Bearer ${token}` } });
      return (await found.json()).replies.map((/** @type {any} */ { encrypted_body }) => atob(encrypted_body).charCodeAt(0));
    }, ada.page.url());
    assert.deepEqual(answers, [1, 2, 2, 2, 2]);
    assert.deepEqual(complaints([ada, ben, cleo, dora]), []);
    for (const one of [ada, ben, cleo, dora]) await one.close();
  },
);

/**
 * A server that lies to one member: it shows another event in place of a reply, and chains all that follows to it.
 *
 * @param {Person} one
 * @returns {Promise<{lie: () => void}>} `lie`: about the next reply.
 */
async function behindLiar(one) {
  const sha256 = (/** @type {string} */ text) => createHash('sha256').update(text).digest('base64url');
  let lies = false;
  /** @type {string | undefined} The hash of what was shown last, once there was a lie. */
  let prev;
  await one.page.routeWebSocket(/\/ws/, (socket) => {
    const behind = socket.connectToServer();
    behind.onMessage((message) => {
      const frame = JSON.parse(String(message));
      if (lies && frame.type === 'new_reply' && prev === undefined) Object.assign(frame, { type: 'something_new', data: {} });
      else if (prev === undefined || frame.seq === undefined || frame.prev === undefined) return socket.send(message);
      else frame.prev = prev;
      const text = JSON.stringify(frame);
      prev = sha256(text);
      socket.send(text);
    });
  });
  return { lie: () => (lies = true) };
}

test(
  '[CHGKEY8] when the server shows two histories of a group, both are shown to the members who see it, and nothing is sent until they decide',
  how,
  async () => {
    const ada = await person('ada', server.url);
    await ada.makeGroup('The Lovelaces', FOUNDED);
    const ben = await Person.sitDown(browser, `ben_${++count}`);
    const liar = await behindLiar(ben);
    await ben.signUp(await ada.inviteLink());
    await ben.page.getByRole('heading', { level: 1, name: 'The Lovelaces' }).waitFor();
    await ada.beginThread('Plans', 'What we do');
    await ben.openThread('Plans');
    await ben.reply('One history');
    await ada.sees(['One history']);
    liar.lie();
    await ada.reply('Hidden from Ben');
    await ada.sees(['One history', 'Hidden from Ben']);
    await ada.reply('Shown to both');
    await ben.sees(['One history', 'Shown to both']);

    const alarm = ben.page.getByRole('alert', { name: 'This browser in the group' });
    await alarm.getByText('There are two histories of this group').waitFor();
    await ben.reply('Held back');
    await ben.sees(['One history', 'Shown to both', '(waiting) Held back']);
    await alarm.getByRole('button', { name: 'Compare and decide' }).click();
    const dialog = ben.page.getByRole('dialog', { name: 'Two histories' });
    const [ours, theirs] = await dialog.locator('code').allTextContents();
    assert.match(ours ?? '', /^([0-9a-f]{4} ){7}[0-9a-f]{4}$/);
    assert.match(theirs ?? '', /^([0-9a-f]{4} ){7}[0-9a-f]{4}$/);
    assert.notEqual(ours, theirs);
    await dialog.getByText(ada.name, { exact: true }).waitFor();
    assert.equal(await ada.page.getByRole('alert', { name: 'This browser in the group' }).count(), 0);
    await ada.sees(['One history', 'Hidden from Ben', 'Shown to both']);

    await dialog.getByRole('button', { name: 'Send all the same' }).click();
    await ada.sees(['One history', 'Hidden from Ben', 'Shown to both', 'Held back']);
    // What Ben sends says where he stood, and Ada's page shows the same two, the other way round.
    await ada.page.getByRole('button', { name: 'Compare and decide' }).click();
    const hers = await ada.page.getByRole('dialog', { name: 'Two histories' }).locator('code').allTextContents();
    assert.equal(hers.length, 2);
    assert.notEqual(hers[0], hers[1]);
    assert.deepEqual(complaints([ada, ben]), []);
    for (const one of [ada, ben]) await one.close();
  },
);
