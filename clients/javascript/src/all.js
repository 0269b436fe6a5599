/** Every part at once, without `import()`: for service workers, and for pages that may go offline before they used a part. */
import * as advice from './advice.js';
import * as catchUp from './catch-up.js';
import * as media from './media.js';
import * as outbox from './outbox.js';
import { parts } from './parts.js';
import * as rest from './rest.js';
import * as verify from './verify.js';

Object.assign(parts, {
  advice: async () => advice,
  catchUp: async () => catchUp,
  media: async () => media,
  outbox: async () => outbox,
  rest: async () => rest,
  verify: async () => verify,
});

export { OrbitalApi, isEpochChanged } from './rest.js';
export * from './index.js';
