#!/usr/bin/env node
// SPDX-License-Identifier: AGPL-3.0-only
/**
 * Three members talk unattended, on a server that is running: `node three-members.js http://localhost:3000`.
 *
 * It prints what each one reads, and ends with status 0 when everybody has read everything in one order.
 */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { randomBytes } from 'node:crypto';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Home, enrol } from './src/home.js';
import { Mistake, sentence } from './src/mistake.js';
import { waitFor } from './src/session.js';

/** @import { Session } from './src/session.js' */

/** @param {string} line */
const print = (line) => void process.stdout.write(`${line}\n`);

/** @param {boolean} holds @param {string} what */
function check(holds, what) {
  if (!holds) throw new Mistake(`This does not hold: ${what}.`);
  print(`  ✓ ${what}`);
}

/** @param {Session} session @param {string} end Wait until a line of the transcript ends so. */
const reads = (session, end) =>
  waitFor(async () => (await session.transcript()).some((line) => line.endsWith(end)), `everybody reads "${end}"`);

/** @param {string} server @param {string} folder @param {Home[]} homes To close. */
async function evening(server, folder, homes) {
  const run = randomBytes(4).toString('hex');
  const password = randomBytes(18).toString('base64url');
  /** @param {string} who @param {{exists?: boolean, place?: string}} [options] */
  const arrive = async (who, { exists = false, place = who } = {}) => {
    const home = join(folder, place);
    await enrol(home, { server, name: `${who}_${run}`, password, exists });
    const made = await Home.open(home);
    homes.push(made);
    return made;
  };

  print('1. Ada, Ben and Cleo sign up; Ada makes a group and invites the others.');
  const [ada, ben, cleo] = [await arrive('ada'), await arrive('ben'), await arrive('cleo')];
  const atAdas = await ada.found('family');
  await atAdas.admittedHere();
  const sessions = [atAdas];
  for (const guest of [ben, cleo]) {
    const session = await guest.join(await atAdas.invitation(), 'family');
    sessions.push(session);
    for (const one of sessions) await one.admitted(guest.account.name);
  }
  const [, atBens, atCleos] = /** @type {[Session, Session, Session]} */ (sessions);

  print('2. Ada and Ben compare their safety number.');
  const numbers = [await atAdas.safetyNumber(ben.account.name), await atBens.safetyNumber(ada.account.name)];
  check(numbers[0] === numbers[1], 'both show the same sixty digits');
  await atAdas.verify(ben.account.name);
  await atBens.verify(ada.account.name);

  print('3. They talk, and wait for each other as people do.');
  /** @param {Session} who @param {() => Promise<void>} act @param {string} end */
  const step = async (who, act, end) => {
    await act();
    for (const one of sessions) if (one !== who) await reads(one, end);
  };
  await step(atAdas, () => atAdas.say('Good evening!'), 'Good evening!');
  await step(atBens, () => atBens.openThread('Sunday', 'Who cooks?'), 'Who cooks?');
  let typist = '';
  const off = atBens.onTyping((name) => (typist = name));
  await waitFor(async () => {
    await atCleos.typing(1);
    return typist;
  }, 'Ben sees that somebody is typing');
  off();
  check(typist === cleo.account.name, 'Ben sees that Cleo is typing');
  await step(atCleos, () => atCleos.reply(1, 'I do, for everybody.'), 'I do, for everybody.');
  const photo = join(folder, 'cake.png');
  await writeFile(photo, randomBytes(70_000));
  await step(atCleos, () => atCleos.photo(1, photo, print), 'cake.png to thread 1');
  for (const [at, one] of sessions.entries()) {
    const saved = join(folder, `saved-${at}.png`);
    await one.save(saved);
    check((await readFile(saved)).equals(await readFile(photo)), `${['Ada', 'Ben', 'Cleo'][at]} has the photo, byte for byte`);
  }

  print('4. Ada links a tablet.');
  const tablet = await arrive('ada', { exists: true, place: 'tablet' });
  const { code } = await tablet.link.offer();
  const receiving = tablet.link.receive();
  const { number } = await ada.link.admit(code);
  check((await receiving).number === number, 'phone and tablet show the same number');
  const [group = ''] = await tablet.link.accept();
  tablet.name('family', group);
  const onTablet = await tablet.enter('family');
  await onTablet.admittedHere();
  for (const one of sessions) await one.admitted(ada.account.name, 2);
  await step(atBens, () => atBens.say('Welcome, tablet.'), 'Welcome, tablet.');
  await reads(onTablet, 'Welcome, tablet.');
  await step(onTablet, () => onTablet.say('Hello from the tablet.'), 'Hello from the tablet.');

  print('5. What everybody has read:');
  const transcripts = [];
  for (const one of sessions) {
    await one.caughtUp();
    transcripts.push(await one.transcript());
  }
  const [first = []] = transcripts;
  for (const line of first) print(`  ${line.replaceAll(`_${run}`, '')}`);
  check(first.length === 6, 'all six are there');
  check(
    transcripts.every((one) => one.join('\n') === first.join('\n')),
    'Ada, Ben and Cleo read the same, in the same order',
  );
  const later = (await onTablet.transcript()).slice(-2).join('\n');
  check(later === first.slice(-2).join('\n'), 'the tablet reads what was said since it was linked');
  for (const one of [...sessions, onTablet])
    if ((await one.warnings()).length) throw new Mistake(`A device was warned: ${await one.warnings()}.`);
  print('Everybody has read everything in order.');
}

const [server, ...rest] = process.argv.slice(2);
if (!server || rest.length || server.startsWith('-')) {
  process.stdout.write('Usage: node three-members.js URL\n\nExample: node three-members.js http://localhost:3000\n');
  process.exit(server === '--help' ? 0 : 2);
}
const folder = await mkdtemp(join(tmpdir(), 'signal-family-'));
/** @type {Home[]} */
const homes = [];
try {
  await evening(server, folder, homes);
} catch (error) {
  process.stderr.write(`${sentence(error) ?? /** @type {Error} */ (error).stack}\n`);
  process.exitCode = 1;
} finally {
  for (const home of homes) await home.close();
  await rm(folder, { recursive: true });
}
