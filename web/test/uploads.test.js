/** Uploads: every state can be left, and an unreachable server ends none. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { importGroupKey, newGroupKey } from '../js/crypto/group-key.js';
import { Uploads } from '../js/model/uploads.js';
import { firstOnly, memoryTable, until } from './fakes.js';

/** @param {{table?: any, exclusive?: any, uploadMedia: (options: any) => Promise<any>}} options */
async function uploads({ table = memoryTable(), exclusive, uploadMedia }) {
  const group = /** @type {any} */ ({ id: 'g', key: await importGroupKey(newGroupKey()) });
  const alone = async (/** @type {string} */ _, /** @type {() => Promise<void>} */ act) => {
    await act();
    return true;
  };
  const session = { user_id: 'me', username: 'ada', token: 't' };
  const made = new Uploads({
    client: { uploadMedia },
    session,
    table,
    groups: new Map(),
    versions: firstOnly,
    quota: () => Promise.reject(new Error('away')),
    exclusive: exclusive ?? alone,
    changed: () => {},
  });
  return { made, group, table };
}

const photo = (size = 10) => new File([new Uint8Array(size)], 'lake.bin', { type: 'application/x-unknown' });
/** @param {string} code @param {boolean} retryable */
const refusal = (code, retryable) => Object.assign(new Error(code), { code, retryable });
/** @param {Uploads} made */
const states = (made) => [...made.all.values()].map(({ state }) => state);

test("[UPLOAD1] without a server, or with a proxy's answer instead, a photo waits and is sent automatically, also after a reload", async () => {
  for (const error of [refusal('NETWORK', true), refusal('HTTP_413', false), refusal('HTTP_403', false), refusal('UNAUTHORIZED', false)]) {
    let away = true;
    const uploadMedia = async () => {
      if (away) throw error;
    };
    const { made, group, table } = await uploads({ uploadMedia });
    await made.add(group, 't', photo());
    assert.deepEqual([states(made), made.toSend], [['waiting'], 1], error.message);
    made.stop();

    const later = (await uploads({ table, uploadMedia })).made;
    await later.restore();
    await until(() => states(later).join() === 'waiting');
    away = false;
    later.wake();
    await until(() => later.all.size === 0);
    assert.equal(table.values.size, 0);
    later.stop();
  }
});

test('[UPLOAD2] a refused upload shows the reason, is no longer counted, and survives a reload until it is discarded', async () => {
  const { made, group, table } = await uploads({ uploadMedia: async () => Promise.reject(refusal('PAYLOAD_TOO_LARGE', false)) });
  await made.add(group, 't', photo());
  assert.deepEqual([states(made), made.toSend], [['failed'], 0]);
  const again = await uploads({ table, uploadMedia: async () => {} });
  await again.made.restore();
  const [upload] = again.made.all.values();
  assert.deepEqual([upload?.state, upload?.error], ['failed', 'PAYLOAD_TOO_LARGE']);
  again.made.discard(upload?.id ?? '');
  await until(() => table.values.size === 0);
});

test('[UPLOAD3] Pause works while a photo is encrypted, waits or is sent; it stays paused over a reload, and Resume continues it', async () => {
  /** @type {any} */
  let sent;
  const hanging = async (/** @type {any} */ { signal }) => {
    sent = signal;
    await new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
  };
  const { made, group, table } = await uploads({ uploadMedia: hanging });
  const sealing = made.add(group, 't', photo(5_000_000));
  const [upload] = made.all.values();
  assert.equal(upload?.state, 'sealing');
  made.pause(upload?.id ?? '');
  await sealing;
  assert.equal(upload?.state, 'paused');
  assert.equal(sent, undefined);

  const going = made.resume(/** @type {any} */ (upload));
  await until(() => sent);
  assert.equal(upload?.state, 'sending');
  made.pause(upload?.id ?? '');
  await going;
  assert.equal(upload?.state, 'paused');
  await until(() => [...table.values.values()].every(({ state }) => state === 'paused'));
  const later = (await uploads({ table, uploadMedia: hanging })).made;
  await later.restore();
  assert.deepEqual([states(later), later.toSend], [['paused'], 0]);
});

test('[UPLOAD4] the error for a file that can no longer be read says to choose it again', async () => {
  const { made, group } = await uploads({ uploadMedia: async () => {} });
  const file = photo();
  file.slice = () => {
    throw new DOMException('gone', 'NotReadableError');
  };
  await made.add(group, 't', file);
  const [upload] = made.all.values();
  assert.deepEqual([upload?.state, upload?.error], ['failed', 'The file can no longer be read. Discard it, and choose it again.']);
});

test('[UPLOAD5] only one of two tabs sends a photo; the other waits for its event', async () => {
  let calls = 0;
  const uploadMedia = async () => void calls++;
  const { made, group } = await uploads({ uploadMedia, exclusive: async () => false });
  await made.add(group, 't', photo());
  assert.deepEqual([states(made), calls], [['waiting'], 0]);
  made.arrived([...made.all.keys()][0] ?? '');
  assert.equal(made.all.size, 0);
  made.stop();
});
