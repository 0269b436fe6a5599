/** A group, before anything of it is loaded. */

/** @import {Group} from './types.js' */

/**
 * @param {Pick<Group, 'id' | 'name' | 'key' | 'code' | 'wrapped' | 'sealedName' | 'memberCount'>} known
 * @returns {Group}
 */
export const newGroup = (known) => ({
  ...known,
  threads: new Map(),
  more: false,
  loaded: 'no',
  members: [],
  online: new Set(),
  notices: [],
  caughtUp: false,
  subscription: undefined,
});
