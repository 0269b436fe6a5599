/** Times, counts and sizes in words. */
import { h } from './dom.js';

const relative = new Intl.RelativeTimeFormat('en', { numeric: 'auto' });
// Dates and times in the order and the clock that the browser is set to.
const clock = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit' });
const day = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'short' });
const dayOfYear = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'short', year: 'numeric' });
const whole = new Intl.DateTimeFormat(undefined, { dateStyle: 'full', timeStyle: 'short' });
const line = new Intl.DateTimeFormat(undefined, { weekday: 'long', day: 'numeric', month: 'long' });
const lineOfYear = new Intl.DateTimeFormat(undefined, { dateStyle: 'long' });
const DAY_MS = 86_400_000;

/** @param {number} atMs @returns {string} One string for each day of the device's time zone. */
export const dayOf = (atMs) => new Date(atMs).toDateString();

/** @param {number} atMs */
const isThisYear = (atMs) => new Date(atMs).getFullYear() === new Date().getFullYear();

/** @param {number} atMs @returns {string} For the line between two days. */
export function dayName(atMs) {
  if (dayOf(atMs) === dayOf(Date.now())) return 'Today';
  if (dayOf(atMs) === dayOf(Date.now() - DAY_MS)) return 'Yesterday';
  return (isThisYear(atMs) ? line : lineOfYear).format(atMs);
}

/** @param {number} atMs @returns {string} Relative within an hour, else the time or date. */
export function ago(atMs) {
  const minutes = Math.ceil((atMs - Date.now()) / 60_000);
  if (minutes > -1) return 'just now';
  if (minutes > -60) return relative.format(minutes, 'minute');
  if (dayOf(atMs) === dayOf(Date.now())) return clock.format(atMs);
  return isThisYear(atMs) ? `${day.format(atMs)}, ${clock.format(atMs)}` : dayOfYear.format(atMs);
}

/** @param {number} atMs */
export const time = (atMs) => h('time', { datetime: new Date(atMs).toISOString(), title: whole.format(atMs) }, ago(atMs));

/** @param {string} at RFC 3339, of what is to come. @returns {string} */
export const until = (at) => `${dayOfYear.format(Date.parse(at))}, ${clock.format(Date.parse(at))}`;

/** Update all relative times on the page. */
export function refreshTimes() {
  for (const node of document.querySelectorAll('time')) node.textContent = ago(Date.parse(node.dateTime));
}

/** @param {number} count @param {string} one @param {string} [many] */
export const counted = (count, one, many = `${one}s`) => `${count} ${count === 1 ? one : many}`;

/** @param {number} bytes */
export function size(bytes) {
  if (bytes >= 1e9) return `${(bytes / 1e9).toFixed(1)} GB`;
  return bytes < 1e6 ? `${bytes && Math.max(1, Math.round(bytes / 1e3))} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

/** @param {string[]} names @returns {string} */
export function writing(names) {
  const [first, second] = names;
  if (!first) return '';
  if (!second) return `${first} is writing…`;
  return names.length === 2 ? `${first} and ${second} are writing…` : 'Several people are writing…';
}

/** Shown for content that cannot be decrypted. */
export const LOCKED = 'This cannot be opened with the key on this device.';
/** Shown for content whose key has not arrived. */
export const WAITS = 'This cannot be read here yet: its key has not arrived.';
/** Letters of a title that are shown; the rest of it would fill the page. */
const TITLE_LETTERS = 300;

/** @param {string | null} title @returns {string} */
export const cut = (title) => (title && title.length > TITLE_LETTERS ? `${title.slice(0, TITLE_LETTERS)}…` : (title ?? ''));
