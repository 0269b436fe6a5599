/** News without a connection: while the next attempt has to wait, the page asks by HTTP. */

/** @import {Family} from './family.js' */
/** @import {Group} from './types.js' */

/**
 * Look once for what is new in the group and thread that are open.
 *
 * The server accepts five connections a minute. A person who reloads often has none left, but the server answers requests.
 *
 * @param {Family} family
 * @param {Group} group
 * @returns {Promise<boolean>} Whether the server answered.
 */
export async function poll({ threads, reading }, group) {
  try {
    const thread = group.threads.get(reading ?? '');
    if (!(await threads.loadPage(group))) return false;
    if (thread?.loaded === 'yes') await threads.update(group, thread);
    return true;
  } catch {
    return false;
  }
}
