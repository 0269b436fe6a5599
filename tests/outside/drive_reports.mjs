/**
 * One message there and back by the JavaScript SDK, on a device whose clock may be wrong: `node drive_reports.mjs URL TOKEN GROUP DAYS`.
 * Prints what came, as JSON.
 */
const [url, token, group, days] = process.argv.slice(2);
const Right = Date;
const shift = Number(days) * 86_400_000;
globalThis.Date = class extends Right {
  constructor(...given) {
    super(...(given.length ? given : [Right.now() + shift]));
  }
  static now() {
    return Right.now() + shift;
  }
};
const { OrbitalClient } = await import('../../clients/javascript/src/index.js');

let asked = 0;
const client = new OrbitalClient(url, { token: () => (asked++, token) });
client.connect();
await client.ready();
const { message_id } = await client.send(group, { type: 'message', encrypted_envelope: 'aGVsbG8=' });
for await (const event of client.subscribe(group, { since: 0 }))
  if (event.type === 'new_message' && event.data.message_id === message_id) break;
client.close();
console.log(JSON.stringify({ message_id, asked }));
