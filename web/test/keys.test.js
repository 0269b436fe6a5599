/** Keys: how they are written, and which ones count. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { seal } from '../js/crypto/envelope.js';
import { importGroupKey, keyFromText, keyToSpeak, keyToText, newGroupKey } from '../js/crypto/group-key.js';
import { GroupKeys, groupKeyName } from '../js/model/group-keys.js';
import { readInvitation } from '../js/model/invitation.js';
import { Membership } from '../js/model/membership.js';
import { firstOnly, memoryTable } from './fakes.js';

const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';

/** @returns {Promise<{raw: any, key: CryptoKey, sealedName: string}>} */
async function group(name = 'The Lovelaces') {
  const raw = newGroupKey();
  const key = await importGroupKey(raw);
  return { raw, key, sealedName: await seal(key, '', 'group-name', name) };
}

test('[KEYTEXT1] the checksum detects every single wrong letter of a key and every swap of neighbours', () => {
  const raw = newGroupKey();
  const text = keyToText(raw);

  assert.equal(text.length, 45);
  assert.deepEqual(keyFromText(text), raw);
  for (let at = 0; at < text.length; at++) {
    for (const letter of ALPHABET) {
      if (letter === text[at]) continue;
      // The last of the 43 letters carries four bits: two of its bits are in no byte, but in the check.
      assert.equal(keyFromText(text.slice(0, at) + letter + text.slice(at + 1)), null, `${at} ${letter}`);
    }
    if (at && text[at] !== text[at - 1]) {
      const swapped = text.slice(0, at - 1) + text[at] + text[at - 1] + text.slice(at + 1);
      assert.equal(keyFromText(swapped), null, `swapped at ${at}`);
    }
  }
});

test('[KEYTEXT2] a key is read aloud in groups of five, and read back with any spaces; a part of one is no key', () => {
  const text = keyToText(newGroupKey());
  const spoken = keyToSpeak(text);

  assert.match(spoken, /^([\w-]{5} ){8}[\w-]{5}$/);
  assert.deepEqual(keyFromText(` ${spoken}\n`), keyFromText(text));
  for (const bad of ['', text.slice(1), text.slice(0, -1), `${text}A`, text.replace(/.$/, '!')]) assert.equal(keyFromText(bad), null);
});

test('[INVITE1] a link is an invitation, a link without a code is still a key, and a damaged one is neither', () => {
  const raw = newGroupKey();
  const key = keyToText(raw);
  const cases = {
    [`https://example.org/#join=ABCD2345.${key}`]: { kind: 'invitation', code: 'ABCD2345', raw },
    [`#join=abcd2345.${key}`]: { kind: 'invitation', code: 'ABCD2345', raw },
    [`https://example.org/#join=null.${key}`]: { kind: 'key', raw },
    [`#join=.${key}`]: { kind: 'key', raw },
    [`#join=ABCD2345.${key.slice(0, 30)}`]: { kind: 'broken' },
    '#join=ABCD2345': { kind: 'broken' },
    '#join=': { kind: 'broken' },
    [key]: { kind: 'key', raw },
    hello: { kind: 'none' },
    '': { kind: 'none' },
  };

  for (const [text, expected] of Object.entries(cases)) assert.deepEqual(readInvitation(text), expected, text);
  assert.deepEqual(readInvitation('abcd-2345', keyToSpeak(key)), { kind: 'invitation', code: 'ABCD2345', raw });
});

test("[GROUPKEY1] a key that does not open the group's name is not stored; such a stored key counts as missing", async () => {
  const table = memoryTable();
  const keys = new GroupKeys('me', table);
  await keys.start();
  const right = await group();
  const wrong = newGroupKey();

  assert.equal(await keys.bring('g', wrong, right.sealedName), undefined);
  assert.equal(table.values.has(groupKeyName('me', 'g')), false);
  table.values.set(groupKeyName('me', 'g'), await importGroupKey(wrong));
  assert.equal(await keys.of('g', 'nothing', right.sealedName), undefined);
  assert.equal((await keys.bring('g', right.raw, right.sealedName))?.name, 'The Lovelaces');
  assert.equal((await keys.of('g', 'nothing', right.sealedName))?.name, 'The Lovelaces');
  assert.equal((await keys.of('other', await keys.wrap(right.raw), right.sealedName))?.name, 'The Lovelaces');
});

/** A server that lets anybody join one group. @param {string} encrypted_name */
async function membership(encrypted_name) {
  /** @type {string[]} */
  const asked = [];
  const keys = new GroupKeys('me', memoryTable());
  await keys.start();
  /** @type {Map<string, any>} */
  const groups = new Map();
  const api = /** @type {any} */ ({
    joinGroup: async () => {
      asked.push('join');
      return { group_id: 'g', encrypted_name };
    },
    removeMember: async (/** @type {string} */ id, /** @type {string} */ user) => void asked.push(`remove ${id} ${user}`),
    newInviteCode: async (/** @type {string} */ id) => {
      asked.push(`new code ${id}`);
      return { invite_code: 'NEWCODE1' };
    },
  });
  const made = new Membership({
    api,
    userId: 'me',
    groups,
    keys,
    versions: firstOnly,
    ask: (question) => question(),
    entering: (act) => act(),
    sync: async () => void asked.push('sync'),
    forget: () => {},
    unlocked: async () => void asked.push('unlocked'),
  });
  return { made, asked, groups, keys };
}

test("[GROUPKEY2] joining with a key that does not open the group's name leaves the group at once and reports it", async () => {
  const right = await group();
  const { made, asked, keys } = await membership(right.sealedName);

  await assert.rejects(made.join('ABCD2345', newGroupKey()), /does not open the group/);
  assert.deepEqual(asked, ['join', 'remove g me']);
  assert.equal(await keys.stored('g'), undefined);
  assert.equal(await made.join('ABCD2345', right.raw), 'g');
});

test('[GROUPKEY3] a link with an expired code, or an already used link, unlocks the group on another device without a request', async () => {
  const right = await group();
  const { made, asked, groups } = await membership(right.sealedName);
  const locked = { id: 'g', sealedName: right.sealedName, key: undefined, name: null };
  groups.set('other', { id: 'other', sealedName: (await group()).sealedName });
  groups.set('g', locked);

  assert.equal(await made.recognize(newGroupKey()), undefined);
  assert.equal(await made.recognize(right.raw), 'g');
  assert.equal(locked.name, 'The Lovelaces');
  assert.deepEqual(asked, ['unlocked']);
});

test('[REMOVE1] removing a member replaces the invite code in the same step, and reports when that failed', async () => {
  const { made, asked } = await membership('');
  const known = /** @type {any} */ ({ id: 'g', code: 'OLDCODE1' });
  await made.remove(known, 'them');

  assert.deepEqual(asked, ['remove g them', 'new code g']);
  assert.equal(known.code, 'NEWCODE1');
});

test('[CREATE1] a second press after a lost answer sends the same group under the same key', async () => {
  /** @type {any[]} */
  const sent = [];
  const { made } = await membership('');
  const api = {
    createGroup: async (/** @type {any} */ body, /** @type {any} */ { key }) => {
      sent.push([body, key]);
      if (sent.length === 1) throw new Error('lost');
      return { group_id: 'g' };
    },
  };
  const keys = new GroupKeys('me', memoryTable());
  await keys.start();
  const call = (/** @type {any} */ act) => act();
  const around = /** @type {any} */ ({ api, keys, ask: call, entering: call, sync: async () => {} });
  const twice = new Membership(around);
  const attempt = {};

  await assert.rejects(twice.create('Twice', attempt), /lost/);
  assert.equal(await twice.create('Twice', attempt), 'g');
  assert.deepEqual(sent[0], sent[1]);
  await twice.create('Another', attempt);
  assert.notEqual(sent[2][1], sent[1][1]);
  assert.ok(made);
});
