/** The parts of the administration about the server itself: invitations, storage and groups, health. */
import { h, put } from '../dom.js';
import { copyButton } from '../dialogs/invite.js';
import { pageAddress } from '../route.js';
import { dialog, field, form, say } from '../window.js';
import { counted, size, time, until } from '../words.js';
import { fact } from './people.js';

/** @import {OrbitalAdminApi} from '/sdk/admin.js' */
/** @import {GroupEntry, InvitationRow} from '/sdk/api-types.js' */

/** Groups of one page of the list. */
const PAGE = 50;
const DAYS = 7;
/** What a part of the server is called where it is away. @type {Record<string, string>} */
const PARTS = {
  database: 'The database does not answer.',
  redis: 'Redis cannot be reached: events between servers arrive late.',
  disk: 'The disk is almost full: no photos are accepted.',
};

/** Fill an element with what a request makes, or with its error. @param {HTMLElement} target @param {() => Promise<import('../dom.js').Child[]>} make */
async function fill(target, make) {
  put(target, h('p', { class: 'hint', role: 'status' }, 'Loading…'));
  try {
    put(target, await make());
  } catch (error) {
    put(target, h('p', { class: 'problem', role: 'alert' }, say(error)));
  }
}

/** @param {OrbitalAdminApi} api */
export function invitations(api) {
  const made = h('div', {});
  const list = h('div', {});
  const load = () =>
    fill(list, async () => {
      const rows = await api.invitations();
      if (!rows.length) return [h('p', { class: 'hint' }, 'There is no invitation.')];
      return [h('ul', { class: 'people' }, rows.reverse().map(row))];
    });

  const row = (/** @type {InvitationRow} */ { number, note, created_at, expires_at, used_at, used_by }) => {
    const over = Date.parse(expires_at) <= Date.now();
    const name = note || `Invitation ${number}`;
    const state = used_at
      ? h('small', {}, `used by ${used_by ?? 'a deleted account'}, `, time(Date.parse(used_at)))
      : h('small', {}, 'made ', time(Date.parse(created_at)), ` · ${over ? 'expired' : 'valid until'} ${until(expires_at)}`);
    const revoke = async () => {
      try {
        await api.revokeInvitation(number);
        await load();
      } catch (error) {
        list.prepend(h('p', { class: 'problem', role: 'alert' }, say(error)));
      }
    };
    const button = h('button', { type: 'button', class: 'quiet', 'aria-label': `Revoke ${name}`, onclick: revoke }, 'Revoke');
    return h('li', {}, h('span', { class: 'grow' }, h('strong', { dir: 'auto' }, name), state), used_at ? null : button);
  };

  const invite = async ({ note = '', days = '' }) => {
    const count = Number(days);
    if (!(count > 0 && count <= 365)) throw new Error('The link can be valid for 1 to 365 days.');
    const { invitation, expires_at } = await api.invite({ note: note.trim(), days: count });
    const link = `${pageAddress(location)}#invitation=${invitation}`;
    const shown = h('input', { readonly: true, value: link, 'aria-label': 'Invitation link' });
    put(
      made,
      h('div', { class: 'copy' }, shown, copyButton(link, shown)),
      h(
        'p',
        { class: 'hint', role: 'status' },
        `The link is shown only now. One person can create one account with it, until ${until(expires_at)}.`,
      ),
    );
    await load();
  };
  void load();
  return [
    h('p', { class: 'hint' }, 'An invitation creates one account. It opens no group: members invite to their groups themselves.'),
    form(
      { label: 'Make a link', act: invite },
      field('note', 'Whom it is for', { required: false, maxlength: 200, placeholder: 'Grandma' }),
      field('days', 'Valid for days', { type: 'number', min: 1, max: 365, value: DAYS, inputmode: 'numeric' }),
    ),
    made,
    list,
  ];
}

/** @param {GroupEntry} group Its name is encrypted. */
const called = ({ creator, created_at }) => [`Group of ${creator}, since `, time(Date.parse(created_at))];

/** @param {OrbitalAdminApi} api */
export function storage(api) {
  const totals = h('div', {});
  const list = h('ul', { class: 'people' });
  const problem = h('p', { class: 'problem', role: 'alert' });
  const more = h('button', { type: 'button', class: 'quiet', hidden: true, onclick: () => void load(list.childElementCount) }, 'Show more');

  /** @param {number} offset */
  async function load(offset) {
    try {
      const page = await api.groups({ limit: PAGE, offset });
      if (!offset) put(list);
      list.append(...page.groups.map(row));
      more.hidden = !page.has_more;
      put(problem);
    } catch (error) {
      put(problem, say(error));
    }
  }

  const row = (/** @type {GroupEntry} */ group) => {
    const { creator, members, threads, media, media_bytes } = group;
    const label = `Delete the group of ${creator} with ${counted(members, 'member')}`;
    return h(
      'li',
      {},
      h(
        'span',
        { class: 'grow' },
        h('strong', {}, ...called(group)),
        h('small', {}, `${counted(members, 'member')} · ${counted(threads, 'thread')} · ${media} media, ${size(media_bytes)}`),
      ),
      h('button', { type: 'button', class: 'quiet', 'aria-label': label, onclick: () => confirm(group) }, 'Delete'),
    );
  };

  const confirm = (/** @type {GroupEntry} */ group) =>
    dialog('Delete this group?', (close) => [
      h('p', {}, ...called(group), '. Its name is encrypted, so it is not shown here: ask a member if you are not sure.'),
      h('p', {}, 'This cannot be undone. It deletes at once:'),
      h(
        'ul',
        { class: 'losses' },
        h('li', {}, `the membership of ${counted(group.members, 'member')}`),
        h('li', {}, `${counted(group.threads, 'thread')} with all replies`),
        h('li', {}, `${counted(group.media, 'photo or file', 'photos and files')} (${size(group.media_bytes)})`),
      ),
      h('p', {}, 'Members keep what their devices received.'),
      form(
        {
          label: 'Delete the group',
          danger: true,
          act: async () => {
            await api.deleteGroup(group.group_id);
            close();
            await load(0);
          },
        },
        h('div', { class: 'actions start' }, h('button', { type: 'button', class: 'quiet', onclick: close, autofocus: true }, 'Cancel')),
      ),
    ]);

  void fill(totals, async () => {
    const found = await api.storage();
    const bound = found.media_total_bytes === null ? 'no limit' : size(found.media_total_bytes);
    return [
      h(
        'dl',
        { class: 'facts' },
        fact('Media', `${found.media}, ${size(found.media_bytes)}`),
        fact('Limit of all media', bound),
        fact('Uploads in progress', `${found.unfinished}, ${size(found.unfinished_bytes)}`),
        fact('Free on the disk', size(found.disk_free_bytes)),
        fact('Reserve', size(found.disk_reserve_bytes)),
      ),
      h('p', { class: 'hint' }, 'Photos are refused before the free space is below the reserve. How much each user stores is under Users.'),
    ];
  });
  void load(0);
  return [totals, h('h3', {}, 'Groups'), problem, list, h('div', { class: 'actions center' }, more)];
}

/** @param {OrbitalAdminApi} api */
export function health(api) {
  const target = h('div', {});
  const load = () =>
    fill(target, async () => {
      const { version, status, degraded, connections, signups } = await api.health();
      const policy = { open: 'anybody', invited: 'by invitation', closed: 'nobody' }[signups] ?? signups;
      return [
        h(
          'dl',
          { class: 'facts' },
          h(
            'div',
            { class: status === 'ready' ? 'good' : 'bad' },
            h('dt', {}, 'Server'),
            h('dd', {}, status === 'ready' ? 'works' : 'works in part'),
          ),
          fact('Version', version),
          fact('Open connections', String(connections)),
          fact('New accounts', policy),
        ),
        h(
          'ul',
          { class: 'losses' },
          degraded.map((part) => h('li', {}, PARTS[part] ?? `${part} is away.`)),
        ),
        h('div', { class: 'actions start' }, h('button', { type: 'button', class: 'quiet', onclick: () => void load() }, 'Check again')),
      ];
    });
  void load();
  return [target];
}
