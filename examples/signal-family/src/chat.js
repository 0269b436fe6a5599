// SPDX-License-Identifier: AGPL-3.0-only
/** The conversation in the terminal: each line is a message, and a line that begins with a slash is a command. */
import { createInterface } from 'node:readline';
import { Mistake, sentence } from './mistake.js';

/** @import { Session } from './session.js' */

export const CHAT_HELP = `Each line that you type is a message. Commands:
  /thread TITLE: TEXT   open a thread          /thread Sunday: Who cooks?
  /reply N TEXT         reply in thread N      /reply 1 I do.
  /photo N FILE         send a photo           /photo 1 cake.jpg
  /save FILE            save the newest photo  /save cake.jpg
  /people               who is here
  /safety NAME          your safety number with somebody: compare it by telephone
  /verify NAME          note that you have compared it
  /invite               an invitation for one more person
  /warnings             what this device was warned of
  /help                 this text
  /quit                 end; Ctrl-D does the same`;

/** @type {Record<string, (session: Session, rest: string, print: (line: string) => void) => Promise<unknown>>} */
const COMMANDS = {
  async thread(session, rest) {
    const [, title, text] = /^([^:]+):\s*(.+)$/.exec(rest) ?? [];
    if (!title || !text) throw new Mistake('A thread has a title and a text: /thread Sunday: Who cooks?');
    await session.openThread(title, text);
  },
  async reply(session, rest) {
    const [number, text] = numbered(rest, '/reply 1 I do.');
    await session.reply(number, text);
  },
  async photo(session, rest, print) {
    const [number, path] = numbered(rest, '/photo 1 cake.jpg');
    await session.photo(number, path, print);
  },
  async save(session, rest, print) {
    if (!rest) throw new Mistake('Say where to: /save cake.jpg');
    print(`Saved ${await session.save(rest)} as ${rest}.`);
  },
  async people(session, _, print) {
    for (const { name, devices } of await session.people())
      print(
        devices ? `${name}, with ${devices} ${devices === 1 ? 'device' : 'devices'}` : `${name}, admitted by nobody here: receives no keys`,
      );
  },
  async safety(session, rest, print) {
    print(await session.safetyNumber(rest));
  },
  async verify(session, rest, print) {
    await session.verify(rest);
    print(`Noted: you have compared your safety number with ${rest}.`);
  },
  async invite(session, _, print) {
    print(await session.invitation());
  },
  async warnings(session, _, print) {
    const warnings = await session.warnings();
    print(warnings.length ? warnings.join('\n') : 'No warnings.');
  },
  async help(_session, _rest, print) {
    print(CHAT_HELP);
  },
};

/** @param {string} rest @param {string} example @returns {[number, string]} */
function numbered(rest, example) {
  const [, number, text] = /^(\d+)\s+(.+)$/.exec(rest) ?? [];
  if (!number || !text) throw new Mistake(`It needs the number of a thread and one thing more: ${example}`);
  return [Number(number), text];
}

/**
 * Carry out one line.
 *
 * @param {Session} session
 * @param {string} line
 * @param {(line: string) => void} print
 * @returns {Promise<boolean>} False for /quit.
 */
export async function act(session, line, print) {
  const text = line.trim();
  if (!text) return true;
  if (text === '/quit') return false;
  if (!text.startsWith('/')) {
    await session.say(text);
    return true;
  }
  const [name = '', ...rest] = text.slice(1).split(' ');
  const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (!command) throw new Mistake(`There is no command /${name}; /help lists them. A message begins with another letter.`);
  await command(session, rest.join(' ').trim(), print);
  return true;
}

/**
 * Talk until the input ends.
 *
 * @param {Session} session
 * @param {NodeJS.ReadableStream} input
 * @param {(line: string) => void} print
 */
export async function chat(session, input, print) {
  let shown = 0;
  let turn = Promise.resolve();
  const show = () =>
    (turn = turn.then(async () => {
      const lines = await session.transcript();
      for (const line of lines.slice(shown)) print(line);
      shown = Math.max(shown, lines.length);
    }));
  await session.caughtUp();
  await show();
  session.onNews = () => void show().catch((error) => print(sentence(error) ?? String(error)));
  const off = session.onTyping((name) => print(`(${name} is typing …)`));
  for await (const line of createInterface({ input, terminal: false })) {
    try {
      // Typing is shown per thread: the newest one stands for the line that is being sent.
      const threads = (await session.items()).filter(({ type }) => type === 'new_thread').length;
      if (threads && !line.startsWith('/')) await session.typing(threads);
      if (!(await act(session, line, print))) break;
    } catch (error) {
      const said = sentence(error);
      if (said === null) throw error;
      print(said);
    }
    await show();
  }
  off();
  session.onNews = () => {};
  await turn;
}
