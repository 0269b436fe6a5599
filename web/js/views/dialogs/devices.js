/** The dialog with the devices of a member in a group of version 2: the safety number, who admitted them, and what was held back. */
import { matchesScan } from '../../model/cipher-roster.js';
import { h, put } from '../dom.js';
import { dialog, form } from '../window.js';
import { ago, counted } from '../words.js';
import { safetyCode } from './safety-code.js';

/** @import {CipherRoster, KnownDevice, Person, Warning} from '../../model/cipher-roster.js' */
/** @import {Family} from '../../model/family.js' */
/** @import {Group} from '../../model/types.js' */

/** Warnings shown: the latest. */
const SHOWN = 20;

/** Why a device is in the group. */
const BY = new Map([
  ['found', 'founded the group'],
  ['knock', 'came with an invite link'],
  ['link', 'admitted by another device of the same person'],
  ['accepted', 'admitted by you, here'],
]);

/** What a warning means, by its code. Those of lost or damaged content have one sentence. */
const MEANINGS = new Map([
  ['unknown_device', 'gave keys with a device that nobody admitted: they are held back.'],
  ['identity_differs', 'has another key at the server than in the group: nothing is taken from it.'],
  ['held_device', 'asks with another device, which is held until one of their own admits it.'],
  ['returned_person', 'came back with other keys. Compare the safety number again.'],
  ['revoked_identity', 'tried to return with a key that was removed.'],
  ['not_proven', 'sent a record without a valid proof: it counts for nothing.'],
  ['wrong_author', 'was named by the server as the author of something that another person signed.'],
  ['wrong_sender', 'was named by the server as the sender of a message of another person: it is not shown.'],
  ['stolen_distribution', 'gave keys that belong to another device: they were refused.'],
  ['other_founder', 'sent a founding of the group that is not the one of your invite link.'],
  ['untrusted_history', 'showed you earlier messages. Verify them to read those.'],
  ['bad_bundle', 'was given no keys: the server offers wrong ones for a device of theirs.'],
  ['misplaced', 'wrote something that the server put in another place: it is not shown.'],
  ['repeated', 'wrote something that the server sent a second time: it is shown once.'],
  ['withheld_removal', 'was removed here, and the server still lists them.'],
  ['withheld_post', 'sent something that the server accepted and did not deliver.'],
  ['gap', 'The server no longer had everything that was written while this browser was away.'],
  ['old_copy', 'An older copy of this browser wrote here: new keys were made.'],
  ['two_histories', 'shows another history of this group than the server shows you.'],
  ['rolled_back', 'The server showed an older history of this group.'],
  ['broken_chain', 'The server broke the chain of this group’s events.'],
]);

/** @param {Group} group @param {string} userId */
const nameOf = (group, userId) => group.members.find(({ user_id }) => user_id === userId)?.username ?? 'A former member';

/** @param {Group} group @param {Warning} warning */
function warningLine(group, { code, userId, atMs }) {
  const meaning = MEANINGS.get(code) ?? 'sent something that could not be opened.';
  const whole = /^[A-Z]/.test(meaning);
  return h('li', {}, h('span', {}, whole ? meaning : `${nameOf(group, userId)} ${meaning} `), h('small', {}, ago(atMs)));
}

/** @param {KnownDevice} device @param {boolean} mine */
const deviceName = ({ device, here }, mine) => `${mine ? 'Device' : 'Their device'} ${device}${here ? ' (this browser)' : ''}`;

/**
 * @param {Group} group
 * @param {string} userId
 * @param {string} username
 * @param {{roster: CipherRoster, mine: boolean, again: () => Promise<void>}} how
 */
function listOf(group, userId, username, { roster, mine, again }) {
  const act = (/** @type {() => Promise<void>} */ work) => async () => {
    await work();
    await again();
  };
  /** @param {Person['devices'][number]} one @param {number} count */
  const known = (one, count) =>
    h(
      'li',
      {},
      h('span', { class: 'grow' }, h('strong', {}, deviceName(one, mine)), h('small', {}, BY.get(one.by)), h('code', {}, one.number)),
      mine && !one.here && count > 1
        ? form({ label: `Remove device ${one.device}`, danger: true, act: act(() => roster.remove(group.id, one.device)) })
        : null,
    );
  /** @param {Person['held'][number]} one */
  const held = ({ device, number, here }) =>
    h(
      'li',
      { class: 'held' },
      h(
        'span',
        { class: 'grow' },
        h('strong', {}, `${mine ? 'Device' : 'Their device'} ${device}${here ? ' (this browser)' : ''} asks`),
        h(
          'small',
          {},
          mine
            ? 'It reads nothing yet. Admit it only when it shows this number itself; it is then given what this browser can read.'
            : `${username} can admit it on another device. Do it here only if ${username} tells you this number.`,
        ),
        h('code', {}, number),
      ),
      here ? null : form({ label: `Admit device ${device}`, act: act(() => roster.admit(group.id, userId, number)) }),
    );
  return (/** @type {Person} */ person) =>
    h('ul', { class: 'people devices' }, [...person.devices.map((one) => known(one, person.devices.length)), ...person.held.map(held)]);
}

/**
 * @param {Person} person
 * @param {string} username
 * @param {{verify: () => Promise<void>, matches: (scanned: string) => boolean | null}} how
 * @returns {Promise<import('../dom.js').Child[]>}
 */
async function safety({ safetyNumber, scannable, verifiedAtMs }, username, how) {
  if (!safetyNumber) return [];
  const rows = (safetyNumber.match(/\d{20}/g) ?? []).map((row) => (row.match(/\d{5}/g) ?? []).join(' '));
  return [
    h('h3', {}, 'Safety number'),
    h('pre', { class: 'safety-number' }, rows.join('\n')),
    h(
      'p',
      { class: 'hint' },
      `Compare it with the number that ${username} sees for you, side by side or on the phone. If both are the same, nobody stands between you.`,
    ),
    ...(await safetyCode(scannable, username, how)),
    verifiedAtMs === null
      ? form({ label: 'Mark as verified', act: how.verify })
      : h('p', { class: 'verified' }, `Verified, ${ago(verifiedAtMs)}.`),
  ];
}

/**
 * @param {Family} family
 * @param {Group} group
 * @param {string} userId
 * @param {string} username
 */
export async function devices(family, group, userId, username) {
  const { roster } = await family.versions.load();
  const mine = userId === family.session.user_id;
  const body = h('div', {});
  const again = async () => {
    const [person, warnings] = [await roster.person(group.id, userId), await roster.warnings(group.id)];
    const about = warnings.filter((one) => one.userId === userId || (mine && /^[A-Z]/.test(MEANINGS.get(one.code) ?? '')));
    const known = person.devices.length;
    const verify = async () => {
      await roster.verify(userId);
      await again();
    };
    put(
      body,
      h(
        'p',
        {},
        known
          ? `${counted(known, 'device')} can read this group.`
          : `Admitted by nobody here: ${username} is given no keys, and reads nothing.`,
      ),
      ...(await safety(person, username, { verify, matches: (scanned) => matchesScan(person.scannable, scanned) })),
      listOf(group, userId, username, { roster, mine, again })(person),
      about.length
        ? h(
            'details',
            {},
            h('summary', {}, `Held back or found wrong: ${about.length}`),
            h(
              'ul',
              { class: 'warnings' },
              about.slice(0, SHOWN).map((one) => warningLine(group, one)),
            ),
          )
        : null,
    );
  };
  await again();
  dialog(mine ? 'Your devices' : `Devices of ${username}`, () => [body]);
}
