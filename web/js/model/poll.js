/** Polls for new messages by HTTP while the next connection attempt has to wait. */

/** @import {Family} from './family.js' */
/** @import {Group} from './types.js' */

/**
 * Load once what is new in the open group and thread.
 *
 * The server accepts five connections a minute. After frequent reloads none is left, but the server still answers requests.
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
