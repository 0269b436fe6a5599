/** What runs in the page: the store's contract, and a family on IndexedDB. Bundled by browser.test.js. */
import { TABLES, Unit, hasNativeMlKem, indexedDbStore, memoryStore } from '../src/index.js';
import { figures, groupFigures } from '../scripts/figures.js';
import { FakeRelay, codes, newFamily, say, texts } from './relay.js';
import { storeContract } from './store-contract.js';

const ADA = 'aaaaaaaa-0000-4000-8000-00000000000a';
const BEN = 'bbbbbbbb-0000-4000-8000-00000000000b';

const raw = (name, table) =>
  new Promise((resolve, reject) => {
    const request = indexedDB.open(name);
    request.onerror = () => reject(request.error);
    request.onsuccess = () => {
      const rows = request.result.transaction(table).objectStore(table).getAll();
      rows.onsuccess = () => {
        request.result.close();
        resolve(rows.result);
      };
    };
  });

globalThis.contract = async () => {
  await storeContract(() => indexedDbStore('contract'));
  return 'kept';
};

/** A family whose founder has two tabs on one store; the store is opened once for each. */
globalThis.family = async () => {
  const relay = new FakeRelay();
  const first = await indexedDbStore('family');
  const second = await indexedDbStore('family');
  const { hpkeRatchet } = await import('../src/ratchet.js');
  const ada = await relay.device(ADA, 1, { store: first, ratchet: hpkeRatchet(first) });
  const ben = await relay.device(BEN, 1, { store: memoryStore() });
  const group = await newFamily(relay, [ada, ben]);
  const tab = await relay.device(ADA, 1, { store: second, ratchet: hpkeRatchet(second), chainName: 'second', publish: false });
  relay.members = [ada, ben];
  await say(ada, group, 'the canary sings');
  await say(tab, group, 'from the second tab');
  await say(ben, group, 'from Ben');
  // Both tabs process the log at once: one reads, the other sees what was read.
  await Promise.all(
    [ada, tab].map((one) => Promise.all(relay.groups.get(group).log.map((event) => one.receive(event).catch((error) => error.code)))),
  );
  await relay.waitIdle(group);
  const identity = await new Unit(first).get('identities', 'me');
  const preKeys = await first.list('pre_keys', 'hpke/');
  const reads = await Promise.all(
    [
      identity.key,
      ...preKeys.map(([, { handles }]) => handles.x25519),
      ...preKeys.map(([, { handles }]) => handles.mlkem).filter((one) => one instanceof CryptoKey),
    ].map((one) =>
      crypto.subtle.exportKey('pkcs8', one).then(
        () => 'read out',
        () => 'kept',
      ),
    ),
  );
  const decoder = new TextDecoder('latin1');
  const shown = [];
  for (const table of ['items', 'sender_keys', 'outbox', 'identities', 'distributions'])
    for (const row of await raw('family', table)) if (/canary|chainKey|identity/.test(decoder.decode(row.sealed))) shown.push(table);
  // biome-ignore format: a list is read across the line
  return {
    group, shown, reads: [...new Set(reads)], handles: reads.length, native: await hasNativeMlKem(),
    ada: await texts(ada, group), tab: await texts(tab, group), ben: await texts(ben, group), codes: [...(await codes(ada, group)), ...(await codes(ben, group))],
  };
};

/** A store that the first version of this package made has every table after it was opened, and its rows. */
globalThis.upgraded = async () => {
  await new Promise((resolve, reject) => {
    const request = indexedDB.open('first', 1);
    request.onupgradeneeded = () => {
      for (const table of [...TABLES, 'key']) if (table !== 'frames') request.result.createObjectStore(table);
      request.transaction.objectStore('meta').put('a row', 'old');
    };
    request.onerror = () => reject(request.error);
    request.onsuccess = () => {
      request.result.close();
      resolve();
    };
  });
  const store = await indexedDbStore('first');
  await store.commit([{ table: 'frames', key: 'one', value: { text: 'two' } }], true);
  const read = await store.get('frames', 'one');
  await store.close();
  return { read, rows: await raw('first', 'meta') };
};

/** After a reload: what the store holds is there. */
globalThis.again = async (group) => (await (await indexedDbStore('family')).list('items', group)).length;

/** What figures-page.js measures; `processor` is exposed to the page. */
globalThis.figures = async (members, rounds) => ({
  steps: await figures(5 * rounds, globalThis.processor),
  memory: await groupFigures(members, rounds, [memoryStore(), memoryStore()], globalThis.processor),
  stored: await groupFigures(members, rounds, [await indexedDbStore('ada'), await indexedDbStore('ben')], globalThis.processor),
});
