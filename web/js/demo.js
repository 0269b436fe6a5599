/** The demonstration: creates two members and a group, and shows both members' pages side by side. */
import { seal } from './crypto/envelope.js';
import { importGroupKey, newGroupKey } from './crypto/group-key.js';
import { newIdentity, publicJwk, wrapGroupKey } from './crypto/identity.js';
import { groupKeyName, identityName } from './model/group-keys.js';
import { keys } from './model/vault.js';
import { h, put } from './views/dom.js';
import { sign } from './views/icons.js';
import { pageAddress } from './views/route.js';
import { form, insecure } from './views/window.js';
import { OrbitalApi } from '/sdk/rest.js';

const MEMBERS = ['ada', 'ben'];
/** Where the address of their thread is stored. */
const MEETING = 'orbital-demo';

/** @param {string} member */
const sessionName = (member) => `orbital-session:${member}`;

/** Whether the members of an earlier visit still exist on this server. */
async function known() {
  for (const member of MEMBERS) {
    const session = JSON.parse(localStorage.getItem(sessionName(member)) ?? 'null');
    if (!session) return false;
    try {
      await new OrbitalApi(pageAddress(location), { token: session.token }).groups();
    } catch (error) {
      // Only the server's own 401 means that the members do not exist.
      if (/** @type {any} */ (error).code === 'UNAUTHORIZED') return false;
      throw error;
    }
  }
  return true;
}

/** Sign a member up, with a password that nobody needs to know. @param {string} member */
async function signUp(member) {
  const identity = await newIdentity();
  const api = new OrbitalApi(pageAddress(location));
  const body = { username: member, password: `Aa1-${crypto.randomUUID()}`, public_key: await publicJwk(identity) };
  const session = await api.signup(body).catch((error) => {
    if (error.code !== 'USERNAME_TAKEN') throw error;
    return api.signup({ ...body, username: `${member}_${crypto.randomUUID().slice(0, 4)}` });
  });
  await keys.set(identityName(session.user_id), identity);
  localStorage.setItem(sessionName(member), JSON.stringify(session));
  return { api, session, identity };
}

/** Create a group and a thread as Ada, and join as Ben. */
async function makeGroup() {
  const raw = newGroupKey();
  const key = await importGroupKey(raw);
  const ada = await signUp('ada');
  const encrypted_name = await seal(key, '', 'group-name', 'The Lovelaces');
  const { group_id, invite_code } = await ada.api.createGroup({
    encrypted_name,
    encrypted_group_key: await wrapGroupKey(ada.identity, raw),
  });
  const { thread_id } = await ada.api.createThread({
    group_id,
    encrypted_title: await seal(key, group_id, 'thread-title', 'Sunday at the lake'),
    encrypted_body: await seal(
      key,
      group_id,
      'thread-body',
      'Who comes along? I bring:\n\n- the **blue** boat\n- plum cake\n\nThe train leaves at 9:12.',
    ),
  });
  const ben = await signUp('ben');
  await ben.api.joinGroup({ invite_code, encrypted_group_key: await wrapGroupKey(ben.identity, raw) });
  for (const { session } of [ada, ben]) await keys.set(groupKeyName(session.user_id, group_id), key);
  localStorage.setItem(MEETING, `#/g/${group_id}/t/${thread_id}`);
}

/**
 * Show the demonstration.
 *
 * @param {HTMLElement} root
 * @param {boolean} atOnce Create the members without asking first.
 */
export async function demo(root, atOnce) {
  const frames = () => {
    const frame = (/** @type {string} */ member) =>
      h('iframe', { src: `./?member=${member}${localStorage.getItem(MEETING) ?? ''}`, title: member, allow: 'clipboard-write' });
    const hint = h('p', {}, 'Write on one side and watch the other. Then open “What the server sees”.');
    put(root, h('main', { class: 'demo' }, h('header', {}, sign(30), h('h1', {}, 'Two members, one group'), hint), MEMBERS.map(frame)));
  };
  const begin = async () => {
    await makeGroup();
    frames();
  };
  if (await known()) return frames();
  if (atOnce && !insecure()) return begin();
  put(
    root,
    h(
      'main',
      { class: 'welcome' },
      h(
        'section',
        { class: 'entry-card', 'aria-label': 'Demonstration' },
        sign(72),
        h('h1', {}, 'See it from both sides'),
        h('p', {}, 'This creates two members and a group on this server, and shows them side by side.'),
        insecure(),
        form({ label: 'Start', act: begin }),
      ),
    ),
  );
}
