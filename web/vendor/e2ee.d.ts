/** The types of the bundle: those of its sources. */
export * from '../../clients/e2ee/src/index.js';
export { isLeftForLater } from '../../clients/e2ee/src/delivering.js';
export { spaced } from '../../clients/e2ee/src/safety.js';
export { logEvent, sdkRelay, startAt } from '../../clients/e2ee/src/sdk-relay.js';
export type { SealedFiles } from '../../clients/e2ee/src/files.js';
export type { LogEvent } from '../../clients/e2ee/src/state.js';
