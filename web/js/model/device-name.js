/** What this browser is called in the list of sessions. */

/** In this order: each but the last says the name of a later one, too. */
const BROWSERS = [
  ['Firefox', /Firefox\/|FxiOS\//],
  ['Edge', /Edg(?:e|A|iOS)?\//],
  ['Opera', /OPR\//],
  ['Chrome', /Chrome\/|CriOS\/|Chromium\//],
  ['Safari', /Safari\//],
];
const SYSTEMS = [
  ['Android', /Android/],
  ['iPhone', /iPhone/],
  ['iPad', /iPad/],
  ['Windows', /Windows/],
  ['macOS', /Mac OS X/],
  ['Linux', /Linux|X11/],
];

/** @param {string} userAgent @returns {string} Such as `Firefox on Linux`. */
export function deviceName(userAgent) {
  const first = (/** @type {any[][]} */ names, /** @type {string} */ otherwise) =>
    names.find(([, sign]) => sign.test(userAgent))?.[0] ?? otherwise;
  const system = first(SYSTEMS, '');
  return `${first(BROWSERS, 'A browser')}${system && ` on ${system}`}`;
}
