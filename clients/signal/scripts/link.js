/**
 * Link the MIT package of this tree into node_modules, as an installation from a registry would place it.
 *
 * A `file:` dependency would do the same, but npm writes the place into the lock, and locks here name no place.
 */
import { mkdirSync, rmSync, symlinkSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const at = (path) => fileURLToPath(new URL(path, import.meta.url));

mkdirSync(at('../node_modules/@orbital-relay'), { recursive: true });
rmSync(at('../node_modules/@orbital-relay/e2ee'), { force: true, recursive: false });
symlinkSync(at('../../e2ee'), at('../node_modules/@orbital-relay/e2ee'), 'dir');
