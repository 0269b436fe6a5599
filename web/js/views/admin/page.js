/** The administration of a server, for its administrators. It shows who there is and what is stored, never content. */
import { h, put } from '../dom.js';
import { pageAddress } from '../route.js';
import { dialog } from '../window.js';
import { users } from './people.js';
import { health, invitations, storage } from './server.js';
import { OrbitalAdminApi } from '/sdk/admin.js';

/** @import {Own} from '../dialogs/account.js' */

/** @param {string} myId @param {Own} own */
export function administration(myId, { token }) {
  const api = new OrbitalAdminApi(pageAddress(location), { token });
  const parts = {
    Users: () => users({ api, myId }),
    Invitations: () => invitations(api),
    Storage: () => storage(api),
    Health: () => health(api),
  };
  const region = h('section', { class: 'admin-part' });
  const buttons = Object.entries(parts).map(([name, make]) => {
    const open = () => {
      for (const each of buttons) each.toggleAttribute('aria-current', false);
      button.setAttribute('aria-current', 'page');
      put(region, h('h3', {}, name), make());
    };
    const button = h('button', { type: 'button', class: 'quiet', onclick: open }, name);
    return button;
  });
  const box = dialog('Administration', () => [
    h('p', { class: 'hint' }, 'You see who there is and what is stored. Nobody sees here what is written: it is encrypted.'),
    h('nav', { class: 'parts', 'aria-label': 'Administration' }, buttons),
    region,
  ]);
  box.classList.add('page');
  buttons[0]?.click();
  return box;
}
