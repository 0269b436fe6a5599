/** What a member must know of this browser in a group of version 2: that it is not admitted, that another one asks, or that there are two histories. */
import { devices } from './dialogs/devices.js';
import { histories } from './dialogs/histories.js';
import { h, put } from './dom.js';

/** @import {ViewContext} from './home.js' */

/** @param {import('../model/cipher-roster.js').Place} place @returns {string} Empty when there is nothing to say. */
function wordsOf({ standing, number, asking, stopped }) {
  if (stopped) return 'There are two histories of this group, and the server may lie. Nothing is sent from here until you decide.';
  if (standing === 'held')
    return `This browser is not admitted yet. Open the group where you read it already, and admit the browser with this number: ${number}. Until then it reads nothing, and the others do not read what you write here.`;
  if (standing === 'revoked')
    return 'This browser was removed from the group: it is given no keys. What it has received stays readable here.';
  if (standing === 'in' && asking) return 'Another browser with your account asks to read this group.';
  return '';
}

/** A bar above the columns. @param {ViewContext} context */
export function makeStanding(context) {
  const { family } = context;
  const element = h('section', { class: 'banner standing', role: 'alert', 'aria-label': 'This browser in the group', hidden: true });
  return {
    element,
    show() {
      const group = context.group();
      const place = group && family.versions.placeIn(group);
      const words = place ? wordsOf(place) : '';
      element.hidden = !words;
      if (!group || !words || element.firstChild?.textContent === words) return;
      const [label, opened] = place?.stopped
        ? ['Compare and decide', () => histories(family, group)]
        : ['Your devices', () => void devices(family, group, family.session.user_id, family.session.username)];
      put(element, h('p', {}, words), h('button', { type: 'button', class: 'quiet', onclick: opened }, label));
    },
  };
}
