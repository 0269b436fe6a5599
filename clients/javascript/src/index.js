/** The public names of `@orbital-relay/client`. */
export { OrbitalClient } from './client.js';
export { OrbitalError } from './errors.js';
export { OrbitalWebSocketManager } from './manager.js';
export { RESET } from './reset.js';
export { localStorageStore, memoryStore } from './stores.js';

/**
 * @typedef {import('./backoff.js').BackoffNumbers} BackoffNumbers
 * @typedef {import('./emitter.js').ClientEvents} ClientEvents
 * @typedef {import('./base-client.js').ClientOptions} ClientOptions
 * @typedef {import('./connection.js').ConnectionOptions} ConnectionOptions
 * @typedef {import('./connection.js').ConnectionState} ConnectionState
 * @typedef {import('./media.js').DownloadOptions} DownloadOptions
 * @typedef {import('./media.js').Downloaded} Downloaded
 * @typedef {import('./media.js').Progress} Progress
 * @typedef {import('./media.js').UploadOptions} UploadOptions
 * @typedef {import('./media.js').Uploaded} Uploaded
 * @typedef {import('./draft.js').Draft} Draft
 * @typedef {import('./draft.js').Pending} Pending
 * @typedef {import('./rest.js').Group} Group
 * @typedef {import('./rest.js').Media} Media
 * @typedef {import('./rest.js').MediaInfo} MediaInfo
 * @typedef {import('./rest.js').Member} Member
 * @typedef {import('./rest.js').Message} Message
 * @typedef {import('./rest.js').Quota} Quota
 * @typedef {import('./rest.js').Reply} Reply
 * @typedef {import('./rest.js').Thread} Thread
 * @typedef {import('./http.js').TokenSource} TokenSource
 * @typedef {import('./log.js').TextPage} TextPage
 * @typedef {import('./reset.js').ResetReason} ResetReason
 * @typedef {import('./rest.js').RestMethods} RestMethods
 * @typedef {import('./stores.js').Store} Store
 * @typedef {import('./subscription.js').CaughtUp} CaughtUp
 * @typedef {import('./subscription.js').Position} Position
 * @typedef {import('./subscription.js').Reset} Reset
 * @typedef {import('./subscription.js').StreamItem} StreamItem
 * @typedef {import('./subscription.js').SubscribeOptions} SubscribeOptions
 * @typedef {import('./subscription.js').Subscription} Subscription
 * @typedef {import('./subscription.js').Violation} Violation
 * @typedef {import('./errors.js').EpochChanged} EpochChanged
 * @typedef {import('./wire.js').Frame} Frame
 * @typedef {import('./wire.js').KeysLow} KeysLow
 * @typedef {import('./wire.js').StateChanged} StateChanged
 * @typedef {import('./wire.js').OrbitalEvent} OrbitalEvent
 * @typedef {import('./wire.js').OtherEvent} OtherEvent
 * @typedef {import('./wire.js').TypingIndicator} TypingIndicator
 */
