// SPDX-License-Identifier: AGPL-3.0-only
/** A member of a group with libsignal and SQLCipher: `node signal_member.js ABOUT PATH KEY`. */
import { beMember } from '../../../tests/clients/line_member.js';
import { signalRatchet, signalStore } from '../src/index.js';

const [, , , path, key] = process.argv;
await beMember({ store: signalStore(path, Buffer.from(key, 'hex')), ratchet: signalRatchet() });
