/** Every part at once, without `import()`: for service workers, and for pages that may go offline before they used a part. */
import * as chain from './chain.js';
import * as fill from './fill.js';
import * as media from './media.js';
import * as outbox from './outbox.js';
import { parts } from './parts.js';
import * as rest from './rest.js';

Object.assign(parts, {
  chain: async () => chain,
  fill: async () => fill,
  media: async () => media,
  outbox: async () => outbox,
  rest: async () => rest,
});

export { OrbitalApi } from './rest.js';
export * from './index.js';
