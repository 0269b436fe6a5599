/** What every store must do; run against each of them, in Node and in a page. It throws at the first broken promise. */

/** @param {boolean} holds @param {string} promise */
const check = (holds, promise) => {
  if (!holds) throw new Error(`broken: ${promise}`);
};
const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);

/** @param {() => Promise<import('../src/ports.js').Store>} open Opens the same store each time. */
export async function storeContract(open) {
  let store = await open();
  const bytes = Uint8Array.of(0, 1, 255);
  check((await store.get('meta', 'none')) === undefined, 'an unknown key is undefined');
  await store.commit(
    [
      { table: 'meta', key: 'b', value: { bytes, deep: [{ bytes }], text: 'ü', zero: 0, no: false, nothing: null } },
      { table: 'items', key: 'b', value: 2 },
    ],
    true,
  );
  const value = await store.get('meta', 'b');
  check(
    value.bytes instanceof Uint8Array && same([...value.bytes], [0, 1, 255]) && value.deep[0].bytes instanceof Uint8Array,
    'byte strings come back as byte strings',
  );
  check(value.text === 'ü' && value.zero === 0 && value.no === false && value.nothing === null, 'plain data comes back as it was');
  check((await store.get('items', 'b')) === 2, 'tables are apart');

  await store.commit(
    ['a/2', 'a/1', 'a/10', 'b/1', 'a'].map((key) => ({ table: 'heads', key, value: key })),
    false,
  );
  check(
    same(
      (await store.list('heads', 'a/')).map(([key]) => key),
      ['a/1', 'a/10', 'a/2'],
    ),
    'keys with a prefix, in order',
  );
  check(
    same(
      (await store.list('heads', 'a/', 2)).map(([key]) => key),
      ['a/1', 'a/10'],
    ),
    'at most so many',
  );
  check((await store.list('heads', '', Infinity)).length === 5, 'an empty prefix lists all');
  await store.commit(
    [
      { table: 'heads', key: 'a/1' },
      { table: 'heads', key: 'gone' },
      { table: 'heads', key: 'a/2', value: 'new' },
    ],
    true,
  );
  check(
    same(await store.list('heads', 'a/'), [
      ['a/10', 'a/10'],
      ['a/2', 'new'],
    ]),
    'a write without a value deletes, another replaces',
  );

  const cyclic = {};
  cyclic.self = cyclic;
  const failed = await store
    .commit(
      [
        { table: 'heads', key: 'x', value: 1 },
        { table: 'heads', key: 'y', value: cyclic },
      ],
      true,
    )
    .then(
      () => false,
      () => true,
    );
  check(failed && (await store.get('heads', 'x')) === undefined, 'a commit that fails writes nothing');

  const order = [];
  const slow = store.exclusive(async () => {
    order.push('first in');
    for (let turn = 0; turn < 5; turn++) await store.get('meta', 'b');
    order.push('first out');
  });
  const failing = store.exclusive(() => Promise.reject(new Error('mine'))).catch((error) => order.push(error.message));
  await Promise.all([slow, failing, store.exclusive(async () => order.push('last'))]);
  check(same(order, ['first in', 'first out', 'mine', 'last']), 'works run one after the other, also behind one that fails');

  await store.close();
  store = await open();
  check((await store.get('items', 'b')) === 2, 'what was committed is there when it is opened again');
  await store.close();
}
