/** A member of a group without libsignal. */
import { memoryStore } from '../../clients/e2ee/src/index.js';
import { beMember } from './line_member.js';

await beMember({ store: memoryStore() });
