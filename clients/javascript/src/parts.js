/**
 * The parts that are loaded when they are first used. `all.js` puts modules that are there already in their place, for a service worker,
 * in which `import()` is forbidden.
 */
export const parts = {
  advice: () => import('./advice.js'),
  catchUp: () => import('./catch-up.js'),
  media: () => import('./media.js'),
  outbox: () => import('./outbox.js'),
  rest: () => import('./rest.js'),
  verify: () => import('./verify.js'),
};
