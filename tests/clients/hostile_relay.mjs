/**
 * The proxy that lies to the clients of hostile.test.js, for a client in another process.
 *
 * The first line on stdin is a JSON object: `port` of the real server, `seed`, and the world of proxy-lies.js. It prints where it listens. After
 * each further line it begins the next lie, and prints it.
 */
import { createInterface } from 'node:readline';
import { Script } from '../../clients/e2ee/test/proxy-lies.js';
import { LyingProxy } from '../../clients/javascript/test/liar.js';

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const { port, seed, ...world } = JSON.parse((await lines.next()).value);
const proxy = await new LyingProxy(port).listen();
const script = new Script(proxy, world, seed);
console.log(`listening ${proxy.url}`);
for await (const _ of lines) {
  const lie = script.next();
  console.log(`lie ${lie.round} ${JSON.stringify(lie)}`);
}
await proxy.close();
