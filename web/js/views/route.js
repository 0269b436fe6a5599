/** Reads and writes the page's address fragment. */

/** @typedef {{groupId?: string | undefined, threadId?: string | undefined, writing?: boolean}} Route */

/** @param {string} hash @returns {Route} */
export function readRoute(hash) {
  const [, groupId, part, threadId] = /^#\/g\/([\w-]+)(?:\/(t|new)(?:\/([\w-]+))?)?$/.exec(hash) ?? [];
  return { groupId, threadId, writing: part === 'new' };
}

/** @param {string} groupId @param {string} [threadId] */
export const address = (groupId, threadId) => `#/g/${groupId}${threadId ? `/t/${threadId}` : ''}`;

/** The page's own address, also below a path of a host: `https://example.org/orbital/`. @param {{href: string}} here `location`. */
export const pageAddress = ({ href }) => new URL('.', href).href;
