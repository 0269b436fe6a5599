#!/usr/bin/env node
// SPDX-License-Identifier: AGPL-3.0-only
/** The terminal client of a family: accounts, groups, conversation, safety numbers and further devices. */
import { homedir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline/promises';
import { parseArgs } from 'node:util';
import { CHAT_HELP, chat } from './src/chat.js';
import { Home, enrol } from './src/home.js';
import { Mistake, sentence } from './src/mistake.js';

const HELP = `Usage: node family.js COMMAND [--home FOLDER] [--server URL]

A terminal client for a family: messages, threads and photos that the server cannot read.

Commands
  signup NAME            make an account
  login NAME             log in on a further device
  group NAME             make a group
  invite GROUP           print an invitation for one person
  join INVITATION NAME   join a group, and give it a name of your own
  groups                 list your groups
  chat GROUP             talk: messages, threads, replies, photos, safety numbers
  read GROUP             print what was said, and end
  safety GROUP NAME      print your safety number with somebody
  link                   make this new device one of yours: shows a code
  admit CODE             on an older device: admit the device that shows the code

Options
  --home FOLDER   where this device keeps its account, key and messages (default: ~/.signal-family)
  --server URL    with signup and login (default: http://localhost:3000)
  --help          this text

The password is asked for, or read from FAMILY_PASSWORD.

Examples
  node family.js signup ada
  node family.js group family
  node family.js invite family
  node family.js signup ben --home ~/ben
  node family.js join 'ABCD2345.43letters…' family --home ~/ben
  node family.js chat family
  node family.js login ada --home ~/adas-tablet
  node family.js link --home ~/adas-tablet
  node family.js admit CODE

In a conversation
${CHAT_HELP.replace(/^/gm, '  ')}
`;

/** @param {string} line */
const print = (line) => void process.stdout.write(`${line}\n`);

/** @param {string} question @returns {Promise<string>} */
async function ask(question) {
  const reader = createInterface({ input: process.stdin, output: process.stdout });
  const answer = await reader.question(question);
  reader.close();
  return answer.trim();
}

/** @param {string} question @returns {Promise<boolean>} */
const agrees = async (question) => /^(y|yes)$/i.test(await ask(`${question} (yes or no) `));

/** @param {string} folder @param {(home: Home) => Promise<void>} work */
async function opened(folder, work) {
  const home = await Home.open(folder);
  try {
    await work(home);
  } finally {
    await home.close();
  }
}

/** @param {Home} home Show a code, and enter the groups that an older device hands over. */
async function link(home) {
  const { code } = await home.link.offer();
  print(`On a device of yours that is in your groups already, run within ten minutes:\n\n  node family.js admit ${code}\n`);
  print('Waiting for it …');
  const { number, groups } = await home.link.receive();
  if (!(await agrees(`Does the other device show the number ${number}?`))) {
    await home.link.decline();
    throw new Mistake('Then nothing was linked. Begin again with "link".');
  }
  const known = new Set(Object.values(home.account.groups));
  let count = known.size + 1;
  for (const group of await home.link.accept()) {
    if (known.has(group)) continue;
    while (home.account.groups[`group${count}`]) count++;
    home.name(`group${count}`, group);
  }
  print(
    `This device has ${groups.length === 1 ? 'one group' : `${groups.length} groups`} now: ${Object.keys(home.account.groups).join(', ')}.`,
  );
  print('Only what is said from now on can be read here.');
}

/** @param {Home} home @param {string} code */
async function admit(home, code) {
  const { device, groups } = await home.link.inspect(code);
  print(`The code is of your device ${device}. It would read ${groups.length === 1 ? 'one group' : `${groups.length} groups`}.`);
  if (!(await agrees('Do you hold that device in your hand, and is it yours?'))) throw new Mistake('Then nothing was linked.');
  print(`Linked. The new device must show this number: ${(await home.link.admit(code)).number}`);
}

/** @type {Record<string, {takes: string[], run: (words: string[], options: {home: string, server: string}) => Promise<void>}>} */
const COMMANDS = {
  ...Object.fromEntries(
    ['signup', 'login'].map((command) => [
      command,
      {
        takes: ['NAME'],
        async run([name = ''], { home, server }) {
          const password = process.env.FAMILY_PASSWORD ?? (await ask('Password: '));
          await enrol(home, { server, name, password, exists: command === 'login' });
          await opened(home, async ({ client }) =>
            print(`You are ${name}, on device ${client.device.me.device}. Everything is in ${home}.`),
          );
        },
      },
    ]),
  ),
  group: {
    takes: ['NAME'],
    run: ([name = ''], { home }) =>
      opened(home, async (one) => {
        await (await one.found(name)).admittedHere();
        print(`The group ${name} is there. Invite somebody: node family.js invite ${name}`);
      }),
  },
  invite: {
    takes: ['GROUP'],
    run: ([name = ''], { home }) => opened(home, async (one) => print(await (await one.enter(name)).invitation())),
  },
  join: {
    takes: ['INVITATION', 'NAME'],
    run: ([invitation = '', name = ''], { home }) =>
      opened(home, async (one) => {
        await (await one.join(invitation, name)).admittedHere();
        print(`You are in ${name}. Talk: node family.js chat ${name}`);
      }),
  },
  groups: {
    takes: [],
    run: (_, { home }) => opened(home, async ({ account }) => print(Object.keys(account.groups).join('\n') || 'No groups yet.')),
  },
  chat: {
    takes: ['GROUP'],
    run: ([name = ''], { home }) => opened(home, async (one) => chat(await one.enter(name), process.stdin, print)),
  },
  read: {
    takes: ['GROUP'],
    run: ([name = ''], { home }) =>
      opened(home, async (one) => {
        const session = await one.enter(name);
        await session.caughtUp();
        for (const line of await session.transcript()) print(line);
      }),
  },
  safety: {
    takes: ['GROUP', 'NAME'],
    run: ([name = '', who = ''], { home }) =>
      opened(home, async (one) => {
        const session = await one.enter(name);
        await session.caughtUp();
        print(await session.safetyNumber(who));
      }),
  },
  link: { takes: [], run: (_, { home }) => opened(home, link) },
  admit: { takes: ['CODE'], run: ([code = ''], { home }) => opened(home, (one) => admit(one, code)) },
};

async function main() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      home: { type: 'string', default: join(homedir(), '.signal-family') },
      server: { type: 'string', default: 'http://localhost:3000' },
      help: { type: 'boolean', default: false },
    },
  });
  const [name = '', ...words] = positionals;
  if (values.help || !name) return process.stdout.write(HELP);
  const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (!command) throw new Mistake(`There is no command ${name}. "node family.js --help" lists them.`);
  if (words.length !== command.takes.length)
    throw new Mistake(
      `"${name}" takes ${command.takes.join(' and ') || 'nothing more'}: node family.js ${[name, ...command.takes].join(' ')}`,
    );
  await command.run(words, values);
}

main()
  .catch((error) => {
    const said = error.code?.startsWith('ERR_PARSE_ARGS')
      ? `${error.message}. "node family.js --help" lists what there is.`
      : sentence(error);
    process.stderr.write(`${said ?? error.stack}\n`);
    process.exitCode = 1;
  })
  .finally(() => process.stdin.destroy());
