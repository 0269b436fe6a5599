/** A real Chromium, and people in front of it. */
import { existsSync } from 'node:fs';
import { chromium } from 'playwright-core';

const PLACES = [
  process.env['ORBITAL_CHROMIUM'],
  '/usr/bin/chromium',
  '/usr/bin/chromium-browser',
  '/usr/bin/google-chrome',
  '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome',
];
const found = PLACES.find((path) => path && existsSync(path));

/** Why there is no browser to be had, for `skip`; false when there is one. */
export const missing = found ? false : 'no Chromium here; apt-get install chromium, or set ORBITAL_CHROMIUM';
if (missing && process.env['CI'] === 'true') throw new Error(missing);

/** Root may not use Chromium's sandbox. */
const args = process.getuid?.() === 0 ? ['--no-sandbox'] : [];

export const launch = () => chromium.launch({ executablePath: /** @type {string} */ (found), args });
