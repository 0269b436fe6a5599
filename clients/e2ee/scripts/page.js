/**
 * Write what the web page uses of this package into `web/vendor`, bundled and minified: the page is served as it is written, without a build step.
 *
 * `npm run page` writes the files; a test compares them with what this program makes.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { bundle } from './size.js';

export const FOLDER = fileURLToPath(new URL('../../../web/vendor', import.meta.url));

/** The licences of what is in the files ask for these lines. */
const NOTICE = `/*! Made by \`npm run page\` in clients/e2ee: change the sources there.
 * @orbital-relay/e2ee: MIT License. @noble/hashes, @noble/post-quantum: MIT License, (c) Paul Miller (paulmillr.com). */
`;

/** A member on IndexedDB, its relay, invites, files and safety numbers; the store in memory is for the page's tests. */
const MEMBER = `
  export {
    HPKE_STOCK, KINDS, LAST_RESORT_MS, Member, founderHash, hpkeRatchet, indexedDbStore, itemKey, memoryStore, openFile, readMediaInfo, sealFile,
    toBase64Url, uuidBytes, writeMediaInfo,
  } from './index.js';
  export { isLeftForLater } from './delivering.js';
  export { logEvent, sdkRelay, startAt } from './sdk-relay.js';
  export { spaced } from './safety.js';
`;

/** What is loaded only where the browser lacks ML-KEM stands in a file of its own. */
const ML_KEM = "export { ml_kem768 } from '@noble/post-quantum/ml-kem.js';";

/** @returns {Promise<Map<string, string>>} The files by their names. */
export async function pageFiles() {
  return new Map([
    ['e2ee.js', NOTICE + (await bundle(MEMBER, { '@noble/post-quantum/ml-kem.js': './ml-kem.js' }))],
    ['ml-kem.js', NOTICE + (await bundle(ML_KEM))],
  ]);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const [name, text] of await pageFiles()) writeFileSync(join(FOLDER, name), text);
}
