/** Makes a group whose content is not loaded yet. */

/** @import {Group} from './types.js' */

/**
 * @param {Pick<Group, 'id' | 'name' | 'key' | 'version' | 'moved' | 'code' | 'invite' | 'wrapped' | 'sealedName' | 'memberCount'>} known
 * @returns {Group}
 */
export const newGroup = (known) => ({
  ...known,
  asked: false,
  begun: false,
  threads: new Map(),
  more: false,
  listedTo: 0,
  loaded: 'no',
  members: [],
  online: new Set(),
  notices: [],
  caughtUp: false,
  subscription: undefined,
});
