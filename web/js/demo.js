/** Two members side by side, each in a page of its own; this one only makes them and sets the table. */
import { newGroupKey, importGroupKey, keyToText, newIdentity, publicJwk, seal, wrapGroupKey } from './crypto.js';
import { form, insecure } from './dialogs.js';
import { h, put } from './dom.js';
import { groupKeyName, identityName, keys } from './vault.js';
import { sign } from './welcome.js';
import { OrbitalApi } from '/sdk/rest.js';

const MEMBERS = ['ada', 'ben'];
/** Where the two find each other, as an address in the page. */
const TABLE = 'orbital-demo';

/** @param {string} member */
const place = (member) => `orbital-session:${member}`;

/** Whether the members of an earlier time are still known to this server. */
async function known() {
  for (const member of MEMBERS) {
    const session = JSON.parse(localStorage.getItem(place(member)) ?? 'null');
    if (!session) return false;
    try {
      await new OrbitalApi(undefined, { token: session.token }).groups();
    } catch {
      return false;
    }
  }
  return true;
}

/** Sign a member up, with a password that nobody needs to know. @param {string} member */
async function signUp(member) {
  const identity = await newIdentity();
  const api = new OrbitalApi();
  const body = { username: member, password: `Aa1-${crypto.randomUUID()}`, public_key: await publicJwk(identity) };
  const session = await api.signup(body).catch((error) => {
    if (error.code !== 'USERNAME_TAKEN') throw error;
    return api.signup({ ...body, username: `${member}_${crypto.randomUUID().slice(0, 4)}` });
  });
  await keys.set(identityName(session.user_id), identity);
  localStorage.setItem(place(member), JSON.stringify(session));
  return { api, session, identity };
}

/** Ada makes a group and begins a thread; Ben has an account. @returns {Promise<string>} The invitation for Ben. */
async function setTheTable() {
  const raw = newGroupKey();
  const key = await importGroupKey(raw);
  const ada = await signUp('ada');
  const encrypted_name = await seal(key, '', 'group-name', 'The Lovelaces');
  const { group_id, invite_code } = await ada.api.createGroup({ encrypted_name, encrypted_group_key: await wrapGroupKey(ada.identity, raw) });
  const { thread_id } = await ada.api.createThread({
    group_id,
    encrypted_title: await seal(key, group_id, 'thread-title', 'Sunday at the lake'),
    encrypted_body: await seal(key, group_id, 'thread-body', 'Who comes along? I bring:\n\n- the **blue** boat\n- plum cake\n\nThe train leaves at 9:12.'),
  });
  await signUp('ben');
  await keys.set(groupKeyName(ada.session.user_id, group_id), key);
  localStorage.setItem(TABLE, `#/g/${group_id}/t/${thread_id}`);
  return `#join=${invite_code}.${keyToText(raw)}`;
}

/**
 * Show the two.
 *
 * @param {HTMLElement} root
 * @param {boolean} atOnce Without asking first.
 */
export async function demo(root, atOnce) {
  const frames = (ofBen = localStorage.getItem(TABLE) ?? '') =>
    put(
      root,
      h(
        'main',
        { class: 'demo' },
        h('header', {}, sign(30), h('h1', {}, 'Two members, one group'), h('p', {}, 'Write on one side and watch the other. Then open “What the server sees”.')),
        MEMBERS.map((member) => h('iframe', { src: `/?member=${member}${member === 'ben' ? ofBen : localStorage.getItem(TABLE)}`, title: member, allow: 'clipboard-write' })),
      ),
    );
  const begin = async () => void frames(await setTheTable());
  if (await known()) return void frames();
  if (atOnce && !insecure()) return begin();
  put(
    root,
    h(
      'main',
      { class: 'welcome' },
      h(
        'section',
        { class: 'door', 'aria-label': 'Demonstration' },
        sign(72),
        h('h1', {}, 'See it from both sides'),
        h('p', {}, 'This makes two members and a group on this server, and opens them side by side.'),
        insecure(),
        form({ label: 'Begin', act: begin }),
      ),
    ),
  );
}
