/** The page in a real Chromium: security policy, accessibility, weight, storage. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { after, before, test } from 'node:test';
import { missing as noChromium, launch, Person, until } from './chromium.js';
import { missing as noServer, Server } from './server.js';

/** @typedef {import('playwright-core').Browser} Browser */
/** @typedef {import('playwright-core').BrowserContextOptions} ContextOptions */

/** Long, for a machine that is busy with other tests. */
const how = { skip: noServer || noChromium, timeout: 900_000 };
const AXE = createRequire(import.meta.url).resolve('axe-core/axe.min.js');
/** What the page may weigh, with everything that an evening loads, as it comes over the line: headers, and gzip without comments. */
const BUDGET_BYTES = 160_000;
/** The same with the settings and the administration, which are loaded when they are opened. */
const WHOLE_BUDGET_BYTES = 200_000;
/** What the settings, the members, the invite link and the administration alone load. */
const SETTINGS = /^\/js\/views\/(admin\/.*|dialogs\/((own-)?account|invite|members)\.js)$|^\/sdk\/admin\.js$/;
/** What groups with changing keys alone load, and the encryption of it: a bundle, and ML-KEM where the browser lacks it. */
const CHANGING = /^\/js\/(model\/cipher(-\w+)?|views\/standing|views\/dialogs\/(devices|histories))\.js$/;
const ENCRYPTION = /^\/vendor\//;
const ENCRYPTION_BUDGET_BYTES = 30_000;
/** What the comparison of a safety number alone loads. */
const COMPARING = /^\/js\/(model\/qr|views\/dialogs\/safety-code)\.js$/;

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

/** A person with an account and a group. @param {string} name @param {string} [group] */
async function member(name, group = 'The Lovelaces') {
  const person = await Person.sitDown(browser, `${name}_${++count}`);
  await person.signUp(server.url);
  await person.makeGroup(group);
  return person;
}

/** Another member of somebody's group. @param {Person} host @param {string} name @param {ContextOptions} [options] */
async function guest(host, name, options) {
  const person = await Person.sitDown(browser, `${name}_${++count}`, options);
  await person.signUp(await host.inviteLink());
  await person.page.locator('.pill.good').waitFor();
  return person;
}

// What runs

const ATTACKS = [
  `<img src=x onerror="alert('title')">`,
  `<script>alert('script')</script>`,
  `<svg/onload=alert('svg')>`,
  `"><iframe src="javascript:alert('frame')"></iframe>`,
];
const LINKS = [
  'javascript:alert(1)',
  'JaVaScRiPt:alert(1)',
  '\u0001javascript:alert(1)',
  'java\tscript:alert(1)',
  'data:text/html,<script>alert(1)</script>',
  'vbscript:msgbox(1)',
  'blob:http://localhost/1',
  'file:///etc/passwd',
  '//evil.example/x',
  '/api/logout',
];

test('[PAGE3] markup in a name, a title, a body or a reply is shown as text, and links are http, https or mailto only', how, async () => {
  const ada = await Person.sitDown(browser, 'ada_attacks');
  await ada.signUp(server.url);
  await ada.makeGroup(ATTACKS[0] ?? '');
  const body = [
    ...ATTACKS,
    ...LINKS.map((address) => `[press me](${address})`),
    '[fine](https://example.org/a?b=c) [mail](mailto:ada@example.org)',
    '```',
    '<b>code</b>',
    '```',
  ].join('\n\n');
  await ada.beginThread(ATTACKS[0] ?? '', body);
  await ada.page.locator('.opening h2').waitFor();
  await ada.reply(ATTACKS.join('\n'));
  await ada.page.locator('.items > li.item').waitFor();
  const ben = await guest(ada, 'ben');
  await ben.page.locator('.card').click();
  await ben.page.locator('.items > li.item').waitFor();

  for (const { page } of [ada, ben]) {
    assert.equal(await page.locator('.opening h2').textContent(), ATTACKS[0]);
    assert.equal(await page.locator('.card-title').textContent(), ATTACKS[0]);
    assert.deepEqual(await page.locator('.words a').evaluateAll((links) => links.map((link) => link.getAttribute('href'))), [
      'https://example.org/a?b=c',
      'mailto:ada@example.org',
    ]);
    assert.equal(await page.locator('#app :is(img, script, iframe, svg:not(.icon, .sign), [onerror], [onload])').count(), 0);
    for (const link of await page.getByText('press me').all()) await link.click();
  }
  assert.deepEqual([...ada.complaints, ...ben.complaints], []);
  await ada.close();
  await ben.close();
});

test('[PAGE4] markdown is rendered, in linear time', how, async () => {
  const { page, close } = await visitor();
  const rendered = (/** @type {string} */ text) =>
    page.evaluate(async (words) => {
      const { markdown } = await import(/** @type {any} */ ('/js/views/markdown/render.js'));
      const place = document.createElement('div');
      place.append(...markdown(words));
      return place.innerHTML;
    }, text);

  assert.equal(
    await rendered('one\ntwo\n\n**b** *i* _u_ ~~s~~ `c`'),
    '<p dir="auto">one<br>two</p><p dir="auto"><strong>b</strong> <em>i</em> <em>u</em> <s>s</s> <code>c</code></p>',
  );
  assert.equal(
    await rendered('- a\n- **b**\n\n3. c\n4. d'),
    '<ul dir="auto"><li>a</li><li><strong>b</strong></li></ul><ol start="3" dir="auto"><li>c</li><li>d</li></ol>',
  );
  assert.equal(
    await rendered('## Head\n> said\n> twice\n---'),
    '<h3 dir="auto">Head</h3><blockquote dir="auto">said<br>twice</blockquote><hr>',
  );
  assert.equal(
    await rendered('a snake_case_name and 2 * 3 * 4 and **open'),
    '<p dir="auto">a snake_case_name and 2 * 3 * 4 and **open</p>',
  );
  assert.match(
    await rendered('see https://example.org/a_b_c.'),
    /<a href="https:\/\/example.org\/a_b_c"[^>]*>https:\/\/example.org\/a_b_c<\/a>\.<\/p>/,
  );
  assert.match(await rendered('[a](https://example.org)'), /rel="noopener noreferrer nofollow"/);
  for (const unit of ['*', '_', '`', '[', '](', '~~', '> ', '**a', 'https://', '- ', '#', '\n', '[a](']) {
    const took = await page.evaluate(
      async (text) => {
        const { markdown } = await import(/** @type {any} */ ('/js/views/markdown/render.js'));
        // The best of many: another program may take the processor during some of them, but not during all.
        const took = [];
        do {
          const began = performance.now();
          markdown(text);
          took.push(performance.now() - began);
        } while (Math.min(...took) >= 2000 && took.length < 10);
        return Math.min(...took);
      },
      unit.repeat(20_000 / unit.length),
    );
    assert.ok(took < 2000, `${JSON.stringify(unit)} took ${took} ms`);
  }
  await close();
});

/** A person on the welcome page. */
async function visitor() {
  const person = await Person.sitDown(browser, 'visitor');
  await person.page.goto(server.url);
  await person.page.locator('.entry-card form').waitFor();
  return { page: person.page, person, close: () => person.close() };
}

// What is sealed

test('[PAGE5] an envelope opens only with the same key, group and kind, and no two envelopes are equal', how, async () => {
  const { page, close } = await visitor();
  const found = await page.evaluate(async () => {
    const { fromBase64, toBase64 } = await import(/** @type {any} */ ('/js/crypto/bytes.js'));
    const { seal, open } = await import(/** @type {any} */ ('/js/crypto/envelope.js'));
    const { newGroupKey, importGroupKey, keyToText, keyFromText } = await import(/** @type {any} */ ('/js/crypto/group-key.js'));
    const raw = newGroupKey();
    const key = await importGroupKey(raw);
    const other = await importGroupKey(newGroupKey());
    const sealed = await seal(key, 'g', 'thread-title', 'plum cake');
    const bytes = fromBase64(sealed);
    const changed = [];
    for (let at = 0; at < bytes.length; at++) {
      const bad = bytes.slice();
      bad[at] ^= 1;
      changed.push(await open(key, 'g', 'thread-title', toBase64(bad)));
    }
    const again = await Promise.all(Array.from({ length: 50 }, () => seal(key, 'g', 'thread-title', 'plum cake')));
    return {
      opened: await open(key, 'g', 'thread-title', sealed),
      refused: [
        await open(other, 'g', 'thread-title', sealed),
        await open(key, 'h', 'thread-title', sealed),
        await open(key, 'g', 'thread-body', sealed),
        await open(undefined, 'g', 'thread-title', sealed),
        await open(key, 'g', 'thread-title', 'no base64!'),
        await open(key, 'g', 'thread-title', ''),
        ...changed,
      ],
      version: bytes[0],
      length: bytes.length,
      nonces: new Set(again.map((text) => toBase64(fromBase64(text).slice(1, 13)))).size,
      extractable: key.extractable,
      roundTrip: toBase64(keyFromText(keyToText(raw))) === toBase64(raw),
      noKeys: ['', 'abc', keyToText(raw).slice(1), `${keyToText(raw)}A`, keyToText(raw).replace(/.$/, '!')].map(keyFromText),
    };
  });
  assert.equal(found.opened, 'plum cake');
  assert.deepEqual(
    found.refused.filter((text) => text !== null),
    [],
  );
  assert.equal(found.version, 1);
  assert.equal(found.length, 1 + 12 + 'plum cake'.length + 16);
  assert.equal(found.nonces, 50);
  assert.equal(found.extractable, false);
  assert.equal(found.roundTrip, true);
  assert.deepEqual(found.noKeys, [null, null, null, null, null]);
  await close();
});

test('[PAGE6] a file is encrypted in pieces that cannot be swapped, cut off or moved to another medium', how, async () => {
  const { page, close } = await visitor();
  const found = await page.evaluate(async () => {
    const { sealFile, openFile } = await import(/** @type {any} */ ('/js/crypto/files.js'));
    const { newGroupKey, importGroupKey } = await import(/** @type {any} */ ('/js/crypto/group-key.js'));
    const key = await importGroupKey(newGroupKey());
    const piece = 1024 * 1024;
    const plain = new Uint8Array(2 * piece + 5).map((_, at) => (at * 7 + (at >> 12)) & 255);
    const { sealed } = await sealFile(key, 'g', 'm', new Blob([plain]));
    const opened = new Uint8Array(await (await openFile(key, 'g', 'm', sealed, 'image/png')).arrayBuffer());
    const whole = new Uint8Array(await sealed.arrayBuffer());
    const long = piece + 28;
    const swapped = new Blob([
      whole.subarray(0, 1),
      whole.subarray(1 + long, 1 + 2 * long),
      whole.subarray(1, 1 + long),
      whole.subarray(1 + 2 * long),
    ]);
    const cut = new Blob([whole.subarray(0, 1 + 2 * long)]);
    const outcome = async (/** @type {Blob} */ blob, group = 'g', medium = 'm') =>
      openFile(key, group, medium, blob, '').then(
        () => 'opened',
        () => 'refused',
      );
    const empty = await sealFile(key, 'g', 'm', new Blob([]));
    return {
      same: opened.length === plain.length && opened.every((byte, at) => byte === plain[at]),
      size: sealed.size,
      bad: [
        await outcome(swapped),
        await outcome(cut),
        await outcome(sealed, 'h'),
        await outcome(sealed, 'g', 'n'),
        await outcome(new Blob([])),
      ],
      empty: await outcome(empty.sealed),
    };
  });
  assert.equal(found.same, true);
  assert.equal(found.size, 1 + 2 * (1024 * 1024 + 28) + 5 + 28);
  assert.deepEqual(found.bad, ['refused', 'refused', 'refused', 'refused', 'refused']);
  assert.equal(found.empty, 'opened');
  await close();
});

test('[PAGE7] no key in this browser can be exported, and neither its storage nor its cache holds plain text', how, async () => {
  const ada = await member('ada', 'Die Mirabellen');
  await ada.beginThread('Quittengelee', 'Nach dem Rezept der Großmutter Hermine.');
  await ada.page.locator('.opening h2').waitFor();
  await ada.page.evaluate(() => navigator.serviceWorker.ready);
  await ada.page.reload();
  await ada.page.locator('.opening h2').waitFor();
  const kept = await ada.page.evaluate(async () => {
    const database = await new Promise(
      (resolve) => (indexedDB.open('orbital').onsuccess = (event) => resolve(/** @type {any} */ (event.target).result)),
    );
    /** @type {any[]} */
    const keys = await new Promise(
      (resolve) =>
        (database.transaction('keys').objectStore('keys').getAll().onsuccess = (/** @type {any} */ event) => resolve(event.target.result)),
    );
    const texts = [JSON.stringify({ ...localStorage }), JSON.stringify({ ...sessionStorage })];
    const addresses = [];
    for (const name of await caches.keys())
      for (const request of await (await caches.open(name)).keys()) {
        addresses.push(new URL(request.url).pathname);
        texts.push((await (await (await caches.open(name)).match(request))?.text()) ?? '');
      }
    return {
      extractable: keys.map((key) => (key instanceof CryptoKey ? key.extractable : key.privateKey.extractable)),
      texts,
      addresses,
    };
  });
  assert.deepEqual(kept.extractable, [false, false]);
  for (const word of ['Quittengelee', 'Hermine', 'Mirabellen'])
    for (const text of kept.texts) assert.ok(!text.includes(word), text.slice(0, 200));
  assert.ok(kept.addresses.includes('/js/main.js'));
  assert.deepEqual(
    kept.addresses.filter((path) => /^\/(api|v1)\//.test(path)),
    [],
  );
  assert.deepEqual(ada.complaints, []);
  await ada.close();
});

// Who can use it

/** @param {Person} person @param {string} where */
async function accessible({ page }, where) {
  // What is still moving has not its colours yet.
  await page.evaluate(() =>
    Promise.all(
      document
        .getAnimations()
        .filter((one) => Number.isFinite(one.effect?.getComputedTiming().endTime))
        .map((one) => one.finished.catch(() => {})),
    ),
  );
  const found = await page.evaluate(async () => {
    const { violations } = await /** @type {any} */ (globalThis).axe.run(document, {
      runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'],
    });
    return violations.map(
      (/** @type {any} */ one) =>
        `${one.id}: ${one.nodes.map((/** @type {any} */ node) => `${node.html.slice(0, 160)} ${node.failureSummary}`).join('\n   ')}`,
    );
  });
  assert.deepEqual(found, [], where);
  const sideways = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  assert.equal(sideways, 0, `${where} scrolls sideways`);
}

/** @type {[string, ContextOptions][]} */
const SCREENS = [
  ['wide and light', { viewport: { width: 1280, height: 800 }, colorScheme: 'light', bypassCSP: true }],
  ['wide and dark', { viewport: { width: 1280, height: 800 }, colorScheme: 'dark', bypassCSP: true }],
  ['narrow and light', { viewport: { width: 360, height: 740 }, colorScheme: 'light', bypassCSP: true, reducedMotion: 'reduce' }],
  ['narrow and dark', { viewport: { width: 360, height: 740 }, colorScheme: 'dark', bypassCSP: true, reducedMotion: 'reduce' }],
];

for (const [screen, options] of SCREENS) {
  test(`[PAGE8] axe reports no violation in any state, and nothing is cut off: ${screen}`, how, async () => {
    const ada = await Person.sitDown(browser, `ada_${++count}`, options);
    const { page } = ada;
    await page.addInitScript({ content: await readFile(AXE, 'utf8') });
    const check = (/** @type {string} */ where) => accessible(ada, `${screen}: ${where}`);
    const narrow = (options.viewport?.width ?? 0) < 900;

    await page.goto(server.url);
    await page.locator('.entry-card form').waitFor();
    await check('the welcome page');
    await ada.signUp(server.url);
    await page.getByText('You are not in a group yet').waitFor();
    await check('no group');
    await ada.makeGroup('The Lovelaces');
    await page.getByText('No threads yet').waitFor();
    await check('an empty group');
    await page.getByRole('link', { name: 'New thread' }).click();
    await page.getByLabel('What is it about?').fill('**bold** and\n- a list\n\n```\ncode\n```');
    await check('a new thread');
    await page.getByRole('link', { name: narrow ? 'Back' : 'The Lovelaces' }).click();
    await ada.beginThread('Sunday at the lake', '# Who comes?\n\n> a *quote* with `code` and https://example.org\n\n1. one\n2. two');
    await page.locator('.opening h2').waitFor();
    await ada.reply('I do.');
    await ada.sees(['I do.']);
    await page
      .locator('.composer input[type=file]')
      .setInputFiles({ name: 'notes.bin', mimeType: 'application/x-unknown', buffer: Buffer.from('no picture') });
    await page.locator('figcaption').waitFor();
    await check('a thread');
    await page.getByRole('button', { name: /^What the server sees/ }).click();
    await page.locator('.frames summary', { hasText: 'new_reply' }).first().click();
    await page.locator('.yours p').first().waitFor();
    await check('what the server sees');
    await page.getByRole('button', { name: 'Close what the server sees' }).click();
    await page.getByRole('button', { name: /^Account/ }).click();
    await page.getByRole('dialog').getByText('Change the password').first().waitFor();
    await check('the account');
    await page.keyboard.press('Escape');
    if (narrow) await page.getByRole('link', { name: 'Back' }).click();
    await page.locator('.card').waitFor();
    await check('the threads');
    await page.getByRole('button', { name: /^Members/ }).click();
    for (const summary of await page.locator('dialog summary').all()) await summary.click();
    await check('the members');
    await page.getByRole('button', { name: 'Invite somebody' }).click();
    await page.locator('[data-invite]').waitFor();
    for (const summary of await page.locator('dialog summary').all()) await summary.click();
    await check('an invitation');
    await page.keyboard.press('Escape');
    if (narrow) await page.getByRole('link', { name: 'Back' }).click();
    await page.getByRole('button', { name: 'Join a group' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Join', exact: true }).click();
    await page.getByRole('alert').filter({ hasText: 'The key is missing' }).waitFor();
    await check('joining');
    await page.keyboard.press('Escape');
    await page.context().setOffline(true);
    await page.getByRole('button', { name: /^What the server sees/ }).click();
    await page.getByRole('button', { name: 'Drop the connection' }).click();
    await page.getByText('You are offline.').waitFor();
    await check('offline');
    await page.context().setOffline(false);
    await ada.isConnected();
    assert.deepEqual(ada.complaints, []);
    await ada.close();
  });
}

test('[PAGE9] an account, a group, a thread and a reply are created by keyboard alone', how, async () => {
  const ada = await Person.sitDown(browser, `ada_${++count}`);
  const { page } = ada;
  const { keyboard } = page;
  /** Press Tab until this has the focus, as somebody without a mouse would. @param {RegExp} name */
  const to = async (name) => {
    for (let presses = 0; presses < 40; presses++) {
      const focused = await page.evaluate(() => {
        const { activeElement: at } = document;
        if (!at?.matches('a, button, input, textarea, summary')) return '';
        return `${at?.getAttribute('aria-label') ?? ''} ${/** @type {any} */ (at)?.labels?.[0]?.textContent ?? ''} ${at?.textContent ?? ''}`;
      });
      if (name.test(focused)) return;
      await keyboard.press('Tab');
    }
    assert.fail(`Tab does not lead to ${name}`);
  };

  await page.goto(server.url);
  await page.locator('.entry-card form').waitFor();
  await to(/Name/);
  await keyboard.type(ada.name);
  await to(/Password/);
  await keyboard.type(ada.password);
  await keyboard.press('Enter');
  await page.getByText('You are not in a group yet').waitFor();
  await to(/Create a group/);
  await keyboard.press('Enter');
  await until(
    () => page.evaluate(() => document.activeElement?.getAttribute('name') === 'name'),
    () => 'the name has not the focus',
  );
  await keyboard.type('By hand');
  await keyboard.press('Enter');
  await page.getByText('No threads yet').waitFor();
  await to(/New thread/);
  await keyboard.press('Enter');
  await until(
    () => page.evaluate(() => document.activeElement?.getAttribute('name') === 'title'),
    () => 'the title has not the focus',
  );
  await keyboard.type('Typed');
  await keyboard.press('Tab');
  await keyboard.type('without a mouse');
  await to(/^ *Create the thread/);
  await keyboard.press('Enter');
  await page.getByRole('heading', { level: 2, name: 'Typed' }).waitFor();
  assert.equal(await page.evaluate(() => document.activeElement?.textContent), 'Typed', 'the thread that was opened has the focus');
  await to(/Your reply/);
  await keyboard.type('and a reply');
  await keyboard.press('Enter');
  await ada.sees(['and a reply']);
  await to(/What the server sees/).catch(async () => {
    for (let presses = 0; presses < 30; presses++) await keyboard.press('Shift+Tab');
    await to(/What the server sees/);
  });
  await keyboard.press('Enter');
  await page.getByRole('complementary', { name: 'What the server sees' }).waitFor();
  assert.deepEqual(ada.complaints, []);
  await ada.close();
});

// What it weighs and keeps

/** The service worker's own files, which the browser keeps itself. */
const WORKER = ['/sw.js', '/sw-push.js'];

test(
  '[PAGE10] the files that an evening loads are under 160 kB, with changing keys 200 kB, all files but their encryption 200 kB, and the service worker keeps exactly those',
  how,
  async () => {
    const ada = await member('ada');
    await ada.beginThread('Weight', 'Everything is used once.');
    await ada.page.locator('.opening h2').waitFor();
    await ada.page
      .locator('.composer input[type=file]')
      .setInputFiles({ name: 'a.bin', mimeType: 'application/x-unknown', buffer: Buffer.from('x') });
    await ada.page.getByRole('button', { name: /^Download/ }).click();
    await ada.page.getByRole('link', { name: 'Save a.bin' }).waitFor();
    await ada.page.getByRole('button', { name: /^What the server sees/ }).click();
    await ada.page.evaluate(() => navigator.serviceWorker.ready);
    const { page, loaded } = ada;
    const kept = await page.evaluate(async () =>
      (
        await Promise.all(
          (
            await caches.keys()
          )
            .filter((name) => name.startsWith('orbital-page/:'))
            .map(async (name) => (await (await caches.open(name)).keys()).map(({ url }) => new URL(url).pathname)),
        )
      ).flat(),
    );
    const early = [...loaded.keys()].filter((path) => [SETTINGS, CHANGING, ENCRYPTION, COMPARING].some((later) => later.test(path)));
    assert.deepEqual(early, [], 'this is loaded before it is needed');
    // What no evening has loaded yet (the reading of a gap, the demonstration, the icons) is weighed too.
    for (const path of [...kept, ...WORKER]) {
      if (loaded.has(path)) continue;
      const answer = await fetch(server.url + path, { headers: { 'Accept-Encoding': 'gzip' } });
      assert.equal(answer.status, 200, path);
      loaded.set(path, Number(answer.headers.get('content-length')));
    }
    const weight = (/** @type {[string, number][]} */ files) => files.reduce((sum, [, size]) => sum + size, 0);
    const [settings = 0, changing = 0, encryption = 0, comparing = 0] = [SETTINGS, CHANGING, ENCRYPTION, COMPARING].map((part) =>
      weight([...loaded].filter(([path]) => part.test(path))),
    );
    const bytes = weight([...loaded]);
    const evening = bytes - settings - changing - encryption - comparing;
    assert.ok(loaded.size > 25, `only ${loaded.size} things were loaded`);
    assert.ok(settings > 5_000, `the settings weigh ${settings} bytes`);
    assert.ok(changing > 3_000 && encryption > 20_000, `changing keys weigh ${changing} and ${encryption} bytes`);
    assert.ok(bytes - encryption < WHOLE_BUDGET_BYTES, `${bytes - encryption} bytes`);
    assert.ok((loaded.get('/vendor/e2ee.js') ?? Infinity) < ENCRYPTION_BUDGET_BYTES);
    assert.ok(evening + changing + encryption < WHOLE_BUDGET_BYTES, `${evening + changing + encryption} bytes with changing keys`);
    assert.ok(evening < BUDGET_BYTES, `${evening} bytes: ${JSON.stringify([...loaded].sort((a, b) => b[1] - a[1]))}`);
    const unkept = [...loaded.keys()].filter((path) => !kept.includes(path) && !WORKER.includes(path));
    assert.deepEqual(unkept, [], 'without a network these would be missing');
    console.log(`the page: ${loaded.size} files, ${bytes} bytes: ${settings} for the settings, ${changing + encryption} for changing keys`);
    await ada.close();
  },
);

test(
  '[PAGE11] without a server the page opens, shows the state, stores what is written, and sends it once when the server is back',
  how,
  async () => {
    const own = await new Server().start();
    const ada = await Person.sitDown(browser, `ada_${++count}`);
    await ada.signUp(own.url);
    await ada.makeGroup('The Lovelaces');
    await ada.beginThread('Before', 'the storm');
    await ada.page.locator('.opening h2').waitFor();
    await ada.page.evaluate(() => navigator.serviceWorker.ready);
    await own.kill();
    await ada.page.locator('.banner').waitFor();
    await ada.reply('Kept through a reload.');
    await ada.sees(['(waiting) Kept through a reload.']);

    await ada.page.reload();
    await ada.page.getByText('The server cannot be reached').first().waitFor();
    await ada.page.locator('.banner').waitFor();
    await own.start();
    await ada.isConnected();
    await ada.openThread('Before');
    await ada.sees(['Kept through a reload.']);
    await ada.page.reload();
    await ada.page.getByRole('heading', { level: 2, name: 'Before' }).waitFor();
    await ada.sees(['Kept through a reload.']);
    assert.deepEqual(ada.complaints, []);
    await ada.close();
    await own.close();
  },
);

test("[PAGE12] the page meets the browser's install criteria", how, async () => {
  const { page, close } = await visitor();
  const devtools = await page.context().newCDPSession(page);
  await page.evaluate(() => navigator.serviceWorker.ready);
  const { errors } = await devtools.send('Page.getAppManifest');
  assert.deepEqual(errors, []);
  const { installabilityErrors } = await devtools.send('Page.getInstallabilityErrors');
  // A private window, such as every test has, is the one thing in the way.
  assert.deepEqual(
    installabilityErrors.map(({ errorId }) => errorId).filter((id) => id !== 'in-incognito'),
    [],
  );
  await close();
});

// Groups, keys, devices

test('[PAGE13] a second device reads nothing until it opens the link, and then everything', how, async () => {
  const ada = await member('ada');
  await ada.beginThread('Under lock', 'and key');
  await ada.page.locator('.opening h2').waitFor();
  const link = await ada.inviteLink();
  const other = await Person.sitDown(browser, ada.name);
  const { page } = other;
  await page.goto(server.url);
  await page.getByRole('button', { name: 'Log in' }).click();
  await page.getByLabel('Name').fill(ada.name);
  await page.getByLabel('Password', { exact: true }).fill('Wrong-Horse-77');
  await page.locator('.entry-card .primary').click();
  await page.getByText('The name or the password is wrong').waitFor();
  await page.getByLabel('Password', { exact: true }).fill(ada.password);
  await page.locator('.entry-card .primary').click();
  await page.getByRole('heading', { level: 1, name: 'Locked group' }).waitFor();

  const ofAnother = await page.evaluate(async () => {
    const { keyToText, newGroupKey } = await import(/** @type {any} */ ('/js/crypto/group-key.js'));
    return keyToText(newGroupKey());
  });
  await page.getByLabel('Link or key').fill(link.replace(/.{10}$/, 'AAAAAAAAAA'));
  await page.getByRole('button', { name: 'Unlock' }).click();
  await page.getByText('A letter may be missing or wrong').waitFor();
  await page.getByLabel('Link or key').fill(ofAnother);
  await page.getByRole('button', { name: 'Unlock' }).click();
  await page.getByText('does not open this group').waitFor();
  await page.getByLabel('Link or key').fill(link);
  await page.getByRole('button', { name: 'Unlock' }).click();
  await other.openThread('Under lock');
  await page.getByRole('button', { name: 'Invite', exact: true }).click();
  await page.getByText('cannot be exported').waitFor();
  assert.deepEqual([...ada.complaints, ...other.complaints], []);
  await ada.close();
  await other.close();
});

test('[PAGE14] content encrypted with another key is marked, and all other content stays readable', how, async () => {
  const ada = await member('ada');
  await ada.beginThread('Readable', 'yes');
  await ada.page.locator('.opening h2').waitFor();
  const token = await ada.page.evaluate(() => JSON.parse(localStorage.getItem('orbital-session') ?? '').token);
  const [, groupId, threadId] = /g\/([\w-]+)\/t\/([\w-]+)/.exec(ada.page.url()) ?? [];
  const post = (/** @type {string} */ path, /** @type {object} */ body) =>
    fetch(server.url + path, {
      method: 'POST',
      headers: { Authorization: `Bearer ${token}`, 'Content-Type': 'application/json' },
      body: JSON.stringify(body),
    });
  const foreign = Buffer.from('this was never sealed here at all').toString('base64');
  assert.equal((await post(`/api/threads/${threadId}/replies`, { encrypted_body: foreign })).status, 201);
  assert.equal((await post('/api/threads', { group_id: groupId, encrypted_title: foreign, encrypted_body: foreign })).status, 201);
  await ada.page.locator('.items .locked', { hasText: 'cannot be opened' }).waitFor();
  await ada.page.locator('.card', { hasText: /^\s*Cannot be opened/ }).waitFor();
  await ada.reply('But this can.');
  await until(
    async () => (await ada.talk())[1] === 'But this can.',
    async () => JSON.stringify(await ada.talk()),
  );
  assert.deepEqual(ada.complaints, []);
  await ada.close();
});

test('[PAGE15] several groups, unread marks, online members, leaving, removal and logging out work', how, async () => {
  const ada = await member('ada');
  const ben = await guest(ada, 'ben');
  const cora = await guest(ada, 'cora');
  await ada.page.getByRole('button', { name: /3 members, 3 online/ }).waitFor();
  await ben.makeGroup('The other one');
  await ben.page.getByRole('navigation', { name: 'Groups' }).getByRole('link').nth(1).waitFor();

  // News of a group that is not open, and of a thread that is not open, are marked until they are read.
  await ada.beginThread('News', 'of the day');
  const groups = ben.page.getByRole('navigation', { name: 'Groups' });
  await groups.getByRole('link', { name: /The Lovelaces.*1 unread/ }).waitFor();
  await until(
    async () => (await ben.page.title()).startsWith('(1)'),
    async () => ben.page.title(),
  );
  await groups.getByRole('link', { name: /The Lovelaces/ }).click();
  await ben.page.getByRole('link', { name: /News.* \d+ new/ }).click();
  await until(
    async () => !(await ben.page.title()).startsWith('('),
    async () => ben.page.title(),
  );

  // Leaving, and being removed.
  await cora.page.getByRole('button', { name: /^Members/ }).click();
  await cora.page.getByText('Leave this group').click();
  await cora.page.getByRole('button', { name: 'Leave', exact: true }).click();
  await cora.page.getByText('You are not in a group yet').waitFor();
  await ada.page.getByRole('button', { name: /^Members: 2 members/ }).click();
  await ada.page.getByRole('button', { name: `Remove ${ben.name}` }).click();
  await ada.page
    .getByRole('dialog')
    .getByRole('button', { name: `Remove ${ben.name}` })
    .click();
  await ben.page.getByText('You are no longer a member of The Lovelaces.').waitFor();
  await groups.getByRole('link', { name: /The Lovelaces/ }).waitFor({ state: 'detached' });

  // A replaced code is no longer valid.
  await ada.page.getByRole('dialog').waitFor({ state: 'detached' });
  const old = await ada.inviteLink();
  await ada.page.getByRole('button', { name: 'Invite', exact: true }).click();
  await ada.page.getByText('Replace the invite code').click();
  await ada.page.getByRole('button', { name: 'Replace the code' }).click();
  await until(
    async () => (await ada.page.locator('[data-invite]').last().inputValue()) !== old,
    () => 'the link stayed',
  );
  const fresh = await ada.page.locator('[data-invite]').last().inputValue();
  await cora.page.goto(old);
  await cora.page.getByRole('button', { name: 'Join the group' }).click();
  await cora.page.getByText('is no longer valid').waitFor();
  await cora.page.keyboard.press('Escape');

  // Code and key, sent separately.
  const [, code = '', key = ''] = /join=(\w+)\.(.+)$/.exec(fresh) ?? [];
  await cora.page.getByRole('button', { name: 'Join a group' }).click();
  await cora.page.getByLabel('Link or code').fill(code.toLowerCase());
  await cora.page.getByLabel('Key, if you received it separately').fill(key);
  await cora.page.getByRole('button', { name: 'Join', exact: true }).click();
  await cora.openThread('News');

  await cora.page.getByRole('button', { name: /^Account/ }).click();
  await cora.page.getByText('This is not my device').click();
  await cora.page.getByRole('button', { name: 'Log out and delete the keys' }).click();
  await cora.page.getByRole('button', { name: 'Delete the keys' }).last().click();
  await cora.page.getByText('the keys are deleted').waitFor();
  assert.equal(await cora.page.evaluate(() => localStorage.getItem('orbital-session')), null);
  assert.deepEqual([...ada.complaints, ...ben.complaints, ...cora.complaints], []);
  for (const person of [ada, ben, cora]) await person.close();
});

// Photos and videos

test('[PAGE16] an upload is paused, survives a reload, resumes where it stopped, and arrives complete', how, async () => {
  const ada = await member('ada');
  const ben = await guest(ada, 'ben');
  const { page } = ada;
  await ada.beginThread('Film', 'of the lake');
  await page.locator('.opening h2').waitFor();
  // 13 MB in three chunks; the server takes the first, and the second hangs until it is stopped.
  const film = Buffer.alloc(13_000_000);
  for (let at = 0; at < film.length; at += 4) film.writeUInt32LE(Math.imul(at + 1, 2654435761) >>> 0, at);
  let uploads = 0;
  await page.route('**/api/media/upload', async (route) => {
    // The rest is held until the page aborts the request.
    if (++uploads > 1) return;
    await route.continue();
  });
  await page.locator('.composer input[type=file]').setInputFiles({ name: 'lake.mp4', mimeType: 'video/mp4', buffer: film });
  await until(
    async () => Number(await page.locator('.items progress').getAttribute('value')) > 0.3,
    () => 'no progress was shown',
  );
  await page.getByRole('button', { name: 'Pause' }).click();
  await page.getByText('paused').waitFor();
  await page.reload();
  await page.getByText('paused').waitFor();
  await page.unroute('**/api/media/upload');
  let again = 0;
  page.on('request', (request) => void (again += Number(request.url().endsWith('/api/media/upload'))));
  await page.getByRole('button', { name: 'Resume' }).click();
  await page.locator('figcaption', { hasText: 'lake.mp4' }).waitFor();
  assert.equal(again, 2, 'the chunk that the server had was not sent again');
  await ada.sees(['lake.mp4']);

  await ben.openThread('Film');
  await ben.page.getByRole('button', { name: /^Play/ }).click();
  const video = ben.page.locator('video');
  await video.waitFor();
  const arrived = await video.evaluate(async (element) => {
    const bytes = await (await fetch(/** @type {HTMLVideoElement} */ (element).src).catch(() => null))?.arrayBuffer();
    return bytes ? bytes.byteLength : null;
  });
  // The policy lets nothing fetch what is shown; the link to save it does.
  assert.equal(arrived, null);
  const [download] = await Promise.all([
    ben.page.waitForEvent('download'),
    ben.page.getByRole('link', { name: 'Save', exact: true }).click(),
  ]);
  const saved = await readFile(await download.path());
  assert.ok(saved.equals(film), `${saved.length} bytes arrived, or others`);
  assert.equal(download.suggestedFilename(), 'lake.mp4');
  assert.deepEqual(ada.complaints, []);
  await ada.close();
  await ben.close();
});

test('[PAGE17] a file whose metadata claims an HTML or SVG type is never rendered as one', how, async () => {
  const ada = await member('ada');
  await ada.beginThread('Files', 'odd ones');
  await ada.page.locator('.opening h2').waitFor();
  for (const [name, mimeType] of [
    ['a.html', 'text/html'],
    ['b.svg', 'image/svg+xml'],
  ]) {
    await ada.page.locator('.composer input[type=file]').setInputFiles({
      name: name ?? '',
      mimeType: mimeType ?? '',
      buffer: Buffer.from(`<svg xmlns="http://www.w3.org/2000/svg"><script>alert('ran')</script></svg>`),
    });
    await ada.page.locator('figcaption', { hasText: name ?? '' }).waitFor();
  }
  await ada.page.getByRole('button', { name: /^Download/ }).click();
  await until(
    async () => (await ada.page.getByRole('link', { name: /^Save [ab]/ }).count()) === 2,
    () => 'they were not opened',
  );
  const types = await ada.page.evaluate(async () => {
    const { shownAs } = await import(/** @type {any} */ ('/js/model/medium.js'));
    return ['text/html', 'image/svg+xml', 'application/pdf', 'text/javascript', 'image/png', 'video/mp4'].map(shownAs);
  });
  assert.deepEqual(types, [...Array(4).fill('application/octet-stream'), 'image/png', 'video/mp4']);
  assert.equal(await ada.page.locator('.frame :is(img, video, iframe, object, embed)').count(), 0);
  assert.deepEqual(ada.complaints, []);
  await ada.close();
});

// Through the server's eyes

test(
  '[PAGE18] the drawer shows ciphertext beside its plain text and checks the chain, and a dropped connection loses nothing',
  how,
  async () => {
    const ada = await member('ada');
    const ben = await guest(ada, 'ben');
    await ada.beginThread('Frames', 'as they pass');
    await ada.page.locator('.opening h2').waitFor();
    await ben.openThread('Frames');
    const { page } = ben;
    await page.getByRole('button', { name: /^What the server sees/ }).click();
    await ada.reply('Plum cake at nine.');
    const line = page.locator('.frames li', { hasText: 'new_reply' }).first();
    await line.locator('.chain', { hasText: '✓' }).waitFor();
    await line.locator('summary').click();
    assert.match((await line.locator('mark').textContent()) ?? '', /^[\w+/]{60,}=*$/);
    await line.locator('.yours', { hasText: 'Plum cake at nine.' }).waitFor();
    assert.ok(!(await line.locator('pre').textContent())?.includes('Plum'));
    await page.locator('.facts', { hasText: / ms/ }).waitFor();

    await page.getByRole('button', { name: 'Drop the connection' }).click();
    await page.locator('.pill.good').waitFor({ state: 'detached' });
    await ada.reply('Said while Ben was gone.');
    await ben.isConnected();
    await ben.sees(['Plum cake at nine.', 'Said while Ben was gone.']);
    await page.locator('.facts', { hasText: 'Reconnections1' }).waitFor();
    await page.locator('.facts .good', { hasText: '✓' }).waitFor();
    assert.deepEqual([...ada.complaints, ...ben.complaints], []);
    await ada.close();
    await ben.close();
  },
);

test('[ALARM1] a message that was changed in transit to the page raises an alarm, which can be dismissed', how, async () => {
  const ada = await member('ada');
  const ben = await Person.sitDown(browser, `ben_${++count}`);
  let lying = false;
  // A server that lies: in one event the hash of the event before is another one.
  await ben.page.routeWebSocket(/\/ws/, (socket) => {
    const upstream = socket.connectToServer();
    upstream.onMessage((text) => {
      const lie = lying && String(text).includes('"new_thread"');
      socket.send(lie ? String(text).replace(/"prev":"[^"]{43}"/, `"prev":"${'A'.repeat(43)}"`) : text);
    });
  });
  await ben.signUp(await ada.inviteLink());
  await ben.page.locator('.pill.good').waitFor();
  const alarm = ben.page.getByRole('alert').filter({ hasText: 'failed a check' });
  await ada.beginThread('Untouched', 'as it was sent');
  await ben.page.getByText('Untouched').first().waitFor();
  assert.equal(await alarm.isVisible(), false);

  lying = true;
  await ada.beginThread('Altered', 'in transit');
  await alarm.waitFor();
  assert.match((await alarm.textContent()) ?? '', /The Lovelaces failed a check: number \d+ was changed/);
  lying = false;
  await alarm.getByRole('button', { name: 'Dismiss' }).click();
  await alarm.waitFor({ state: 'hidden' });
  await ada.close();
  await ben.close();
});

test('[PAGE19] the demonstration shows two members side by side, and the same two on each visit', how, async () => {
  const own = await new Server().start();
  const person = await Person.sitDown(browser, 'newcomer');
  const { page } = person;
  await page.goto(`${own.url}/?demo=now`);
  const [ada, ben] = [page.frameLocator('iframe >> nth=0'), page.frameLocator('iframe >> nth=1')];
  await ben.getByRole('heading', { level: 2, name: 'Sunday at the lake' }).waitFor();
  await ada.getByRole('heading', { level: 2, name: 'Sunday at the lake' }).waitFor();
  await ben.getByRole('textbox', { name: 'Your reply' }).fill('From the other side');
  await ben.getByRole('button', { name: 'Send the reply' }).click();
  await ada.locator('.items li', { hasText: 'From the other side' }).waitFor();
  await page.goto(`${own.url}/?demo`);
  await ben.locator('.items li', { hasText: 'From the other side' }).waitFor();
  assert.deepEqual(person.complaints, []);
  await person.close();
  await own.close();
});

test('[PAGE20] a notification is shown for a thread that is not visible, if it was allowed', how, async () => {
  const ada = await member('ada');
  const ben = await guest(ada, 'ben', { permissions: ['notifications'], serviceWorkers: 'block' });
  await ben.page.evaluate(() => {
    const notified = /** @type {any} */ (globalThis);
    notified.notified = [];
    notified.Notification = class {
      static permission = 'granted';
      /** @param {string} title @param {{body: string}} options */
      constructor(title, { body }) {
        notified.notified.push([title, body]);
      }
    };
  });
  await ada.beginThread('Loud', 'and clear');
  await until(
    () => ben.page.evaluate(() => /** @type {any} */ (globalThis).notified.length === 1),
    () => 'no notification was shown',
  );
  await ben.openThread('Loud');
  await ada.reply('Seen at once.');
  await ben.sees(['Seen at once.']);
  assert.deepEqual(await ben.page.evaluate(() => /** @type {any} */ (globalThis).notified), [
    [`${ada.name} started “Loud”`, 'The Lovelaces'],
  ]);
  await ada.close();
  await ben.close();
});
