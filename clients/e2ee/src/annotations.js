/** What members say about threads, replies and media: reactions, edits, pins, polls. An entry of its own: not every page has them. */
export * from './annotation-fold.js';
export * from './annotation-kinds.js';
