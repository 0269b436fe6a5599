/** The member of storm_member.py by the JavaScript package. */
import { CipherClient, textOf } from '../../clients/e2ee/src/cipher-client.js';
import { fromHex } from '../../clients/e2ee/src/bytes.js';
import { betterSqlite, sqlcipherStore } from '../../clients/e2ee/src/stores/sqlcipher.js';
import { OrbitalClient } from '../../clients/javascript/src/all.js';

const POLL_MS = 250;
const { default: Database } = await import('../../clients/e2ee/node_modules/better-sqlite3-multiple-ciphers/lib/index.js');
const { url, token, user, name, group: groupId, people, texts, path, key, invite } = JSON.parse(process.argv[2]);
const print = (line) => process.stdout.write(`${line}\n`);
const poll = () => new Promise((resolve) => setTimeout(resolve, POLL_MS));
process.stdin.on('end', () => process.exit(0)).resume();

const backoff = { steps_ms: [50, 100, 200], jitter_ms: 50, attempts: 1e6, window_ms: 1000 };
const orbital = new OrbitalClient(url, { token, verify: true, backoff });
const client = await CipherClient.open(orbital, { store: sqlcipherStore(betterSqlite(Database, path), fromHex(key)), user });
const { device } = client;
if (invite === null) await device.group(groupId).catch(() => client.found(groupId));
const group = await client.group(groupId, invite === null ? {} : { invite });
if (invite === null) print(`invite ${(await device.invite(groupId)).text}`);
while ((await device.roster(groupId)).devices.length < people) await poll();
print('ready');
// An event that comes back between two reads would be in neither; nothing is drafted, so pending only falls.
let before;
let mine;
do {
  before = await device.pending(groupId);
  mine = (await device.items(groupId)).filter(({ author }) => author === user).length;
} while (before !== (await device.pending(groupId)));
for (let number = mine + before; number < texts; number++) {
  await group.send(`${name} ${number}`);
  print('sent');
}
let items;
while ((items = await device.items(groupId)).length < people * texts || (await device.pending(groupId))) await poll();
const statuses = {};
for (const { status } of items) statuses[status] = (statuses[status] ?? 0) + 1;
const warnings = (await device.warnings(groupId)).map(({ code }) => code);
print(`complete ${JSON.stringify({ texts: new Set(items.map(textOf)).size, statuses, warnings })}`);
