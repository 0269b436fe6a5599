/** The part of the account dialog about notifications: on and off, groups, quiet hours. */
import { hasPush } from '../../model/push.js';
import { h, put } from '../dom.js';
import { say } from '../window.js';

/** @import {Family} from '../../model/family.js' */
/** @import {Push} from '../../model/push.js' */

/** Why this browser shows no notifications, or an empty text. */
function obstacle() {
  if (!('Notification' in globalThis))
    return 'This browser does not show notifications for this page. On an iPhone or iPad, add the page to the home screen first.';
  return Notification.permission === 'denied' ? 'This browser does not show notifications for this page: its settings forbid them.' : '';
}

/** Ask for the permission, and subscribe. @param {Push} push @returns {Promise<string>} What came of it. */
export async function turnOn(push) {
  if ((await Notification.requestPermission()) !== 'granted') return 'The browser does not allow notifications for this page.';
  if (!hasPush()) return 'You are notified of new messages while this page is open.';
  try {
    await push.turnOn();
    return '';
  } catch (error) {
    return `You are notified while this page is open. Notifications of a closed page did not work: ${say(error)}`;
  }
}

/** @param {Push} push */
function quietHours(push) {
  const { quiet } = push.mute;
  const time = (/** @type {string} */ label, /** @type {string} */ value) =>
    h('label', {}, label, h('input', { type: 'time', value, onchange: () => save() }));
  const start = time('From', quiet?.start ?? '22:00');
  const end = time('to', quiet?.end ?? '07:00');
  const on = /** @type {HTMLInputElement} */ (h('input', { type: 'checkbox', checked: quiet !== null, onchange: () => save() }));
  const hours = h('div', { class: 'hours', hidden: quiet === null }, start, end);
  const value = (/** @type {HTMLElement} */ label) => /** @type {HTMLInputElement} */ (label.querySelector('input')).value;
  const save = () => {
    hours.hidden = !on.checked;
    const time_zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
    void push.change({ quiet: on.checked && value(start) && value(end) ? { start: value(start), end: value(end), time_zone } : null });
  };
  return [h('label', { class: 'check' }, on, 'Quiet hours: notify me when they are over'), hours];
}

/** @param {Family} family @param {Push} push */
function groups(family, push) {
  const box = (/** @type {import('../../model/types.js').Group} */ { id, name }) => {
    const input = h('input', { type: 'checkbox', checked: !push.mute.groups.includes(id) });
    const field = /** @type {HTMLInputElement} */ (input);
    field.addEventListener('change', () => void push.toggle('groups', id, !field.checked));
    return h('label', { class: 'check' }, input, h('span', { dir: 'auto' }, name ?? 'Locked group'));
  };
  return family.groups.size ? h('fieldset', {}, h('legend', {}, 'Groups that notify'), [...family.groups.values()].map(box)) : null;
}

/** @param {Family} family @param {Push} push @returns {HTMLElement} */
export function notifications(family, push) {
  const place = h('section', { class: 'notifications' });
  const show = (message = '') => {
    const state = (/** @type {string} */ text) => h('p', { class: 'hint', role: 'status' }, message || text);
    const on = async () => show(await turnOn(push));
    const off = async () => {
      await push.turnOff();
      show();
    };
    const button = (/** @type {string} */ text, /** @type {() => void} */ act) =>
      h('button', { type: 'button', class: 'quiet', onclick: act }, text);
    const blocked = obstacle();
    put(
      place,
      h('h3', {}, 'Notifications'),
      ...(blocked
        ? [state(blocked)]
        : push.on
          ? [
              state('This device is notified of new messages, also while this page is closed.'),
              groups(family, push),
              ...quietHours(push),
              button('Stop notifying this device', off),
            ]
          : [button('Notify me of new messages', on), state('')]),
    );
  };
  show();
  return place;
}

/** A bar that offers notifications once: when there is somebody else to write, and the browser was never asked. @param {Family} family @param {Push} push */
export function makeOffer(family, push) {
  const element = h('section', { class: 'newer offer', 'aria-label': 'Notifications', hidden: true });
  const text = h('p', {}, 'Get a notification of new messages, also while this page is closed?');
  const yes = async () => {
    const problem = await turnOn(push);
    if (problem) push.decline();
    family.changed();
  };
  const button = (/** @type {string} */ label, /** @type {() => void} */ act) =>
    h('button', { type: 'button', class: 'quiet', onclick: act }, label);
  put(
    element,
    text,
    button('Notify me', yes),
    button('Not now', () => push.decline()),
  );
  return {
    element,
    show() {
      const others = [...family.groups.values()].some(({ memberCount }) => memberCount > 1);
      element.hidden = !others || !family.caughtUp || !hasPush() || push.asked || Notification.permission !== 'default';
    },
  };
}
