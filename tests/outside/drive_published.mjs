/**
 * Runs a client class that others wrote, unchanged, under Node, and lets a test drive it by lines.
 *
 * Called as `node drive_published.mjs <file with the class> <its name> <apiUrl> <token>`. Standard input takes one
 * command a line (`connect`, `close`, `on <event>`, `subscribe <id> …`, `unsubscribe <id> …`); standard output reports
 * what happens, one line each: `open`, `sent <text>`, `received <text>`, `closed <code>`, `event <name> <data>`,
 * `log <level> <words>`.
 */

import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import WebSocket from 'ws';

const [file, name, apiUrl, token] = process.argv.slice(2);
const report = (...words) => process.stdout.write(`${words.join(' ')}\n`);

/** The same socket, which also reports its frames. */
class ReportingWebSocket extends WebSocket {
  constructor(...options) {
    super(...options);
    this.addEventListener('open', () => report('open'));
    this.addEventListener('message', (event) => report('received', event.data));
    this.addEventListener('close', (event) => report('closed', event.code));
  }

  send(text, ...options) {
    report('sent', text);
    super.send(text, ...options);
  }
}

const words =
  (level) =>
  (...said) =>
    report('log', level, ...said.map((word) => word?.message ?? String(word)));
const quietConsole = { log: words('log'), warn: words('warn'), error: words('error') };

// The class names WebSocket and console as globals of a browser.
const make = new Function('WebSocket', 'console', `${readFileSync(file, 'utf8')}\nreturn ${name};`);
const Manager = make(ReportingWebSocket, quietConsole);
const manager = new Manager(apiUrl, token);

for await (const line of createInterface({ input: process.stdin })) {
  const [order, ...rest] = line.split(' ');
  switch (order) {
    case 'on':
      manager.on(rest[0], (data) => report('event', rest[0], JSON.stringify(data)));
      break;
    case 'connect':
      manager.connect();
      break;
    case 'close':
      manager.close();
      break;
    case 'subscribe':
      manager.subscribe(rest);
      break;
    case 'unsubscribe':
      manager.unsubscribe(rest);
      break;
    default:
      throw new Error(`no such order: ${line}`);
  }
}
process.exit(0);
