/**
 * The figures of figures.js in a page in Chromium, as a line of JSON: members with a store in memory, and with IndexedDB.
 *
 * A page has no processor time, so it is summed here over all of Chromium's processes; the call from the page costs it about a millisecond.
 */
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { missing } from '../../javascript/test/chromium.js';
import { servePage } from '../test/serve-page.js';

/** Why the figures of a page cannot be measured here; false when they can. */
export const missingFigures =
  missing || (!existsSync('/proc/self/schedstat') && 'processor time of other processes is read from /proc/PID/schedstat');

/** @template T @param {() => T} read @param {T} ended @returns {T} `ended` when the process or the thread has ended. */
function unlessEnded(read, ended) {
  try {
    return read();
  } catch {
    return ended;
  }
}
const content = (/** @type {string} */ path) => unlessEnded(() => readFileSync(path, 'utf8'), '');

/** @param {number} root A process. @returns {Set<string>} It and its descendants. */
function processes(root) {
  const parents = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map((pid) => [pid, content(`/proc/${pid}/stat`).replace(/.*\) . (\d+) .*/s, '$1')]);
  const found = new Set([String(root)]);
  for (const pid of found) for (const [child, parent] of parents) if (parent === pid) found.add(/** @type {string} */ (child));
  return found;
}

/** @param {number} root @returns {number} Milliseconds of processor time of it and its descendants. */
function processorOf(root) {
  let nanoseconds = 0;
  // The first number is the time on a processor (Linux, Documentation/scheduler/sched-stats.rst).
  for (const pid of processes(root))
    for (const thread of unlessEnded(() => readdirSync(`/proc/${pid}/task`), []))
      nanoseconds += Number(content(`/proc/${pid}/task/${thread}/schedstat`).split(' ')[0]);
  return nanoseconds / 1e6;
}

/** @param {number} members That are left after a removal. @param {number} rounds Texts. @returns {Promise<import('./figures.js').Figures>} */
export async function pageFigures(members, rounds) {
  const page = await servePage();
  try {
    const tab = await page.tab();
    await tab.expose('processor', () => processorOf(tab.browser.process.pid));
    await tab.go(page.url);
    return await tab.run((...how) => globalThis.figures(...how), members, rounds);
  } finally {
    await page.close();
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) console.log(JSON.stringify(await pageFigures(50, 200)));
