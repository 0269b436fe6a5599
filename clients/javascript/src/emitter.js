/** Event emitter: handlers by name. */
import { wrap } from './errors.js';

/** @import {ConnectionState} from './connection.js' */
/** @import {Draft} from './draft.js' */
/** @import {OrbitalError} from './errors.js' */
/** @import {CaughtUp, Reset, Violation} from './subscription.js' */
/** @import {MessagePosted, ReplyPosted, ThreadPosted} from './rest.js' */
/** @import {AuthSuccess, Frame, KeysLow, StateChanged, TypingIndicator} from './wire.js' */

/**
 * What a client emits, by name.
 *
 * @typedef {object} ClientEvents
 * @property {[state: ConnectionState]} state
 * @property {[state: ConnectionState]} connecting
 * @property {[state: ConnectionState]} open
 * @property {[state: ConnectionState]} closed
 * @property {[error: OrbitalError]} error What concerns no single call: a bad frame, a handler that threw, an error of the server, the end of a client that was refused.
 * @property {[violation: Violation]} violation
 * @property {[data: Reset['data'], reset: Reset]} reset Of any subscription.
 * @property {[data: CaughtUp['data'], caughtUp: CaughtUp]} caught_up Of any subscription.
 * @property {[data: TypingIndicator, frame: Frame]} typing_indicator
 * @property {[data: AuthSuccess, frame: Frame]} auth_success
 * @property {[data: KeysLow, frame: Frame]} keys_low A device of the user's has few one-time keys left: publish more.
 * @property {[data: StateChanged, frame: Frame]} state_changed A device of the user's stored a new state for a group: read it with `memberState`.
 * @property {[sent: {key: string, group_id: string, draft: Draft, answer: MessagePosted | ThreadPosted | ReplyPosted}]} sent
 * @property {[failed: {key: string, group_id: string, draft: Draft, error: OrbitalError}]} failed
 */

/**
 * Calls handlers by the name of what happened. A handler that throws, or whose promise is rejected, is reported as
 * `error` with code `HANDLER`, and affects nothing else.
 */
export class Emitter {
  /** @type {Record<string, Function[]>} The handlers by name. */
  eventHandlers = Object.create(null);

  /**
   * @template {keyof ClientEvents} K
   * @overload
   * @param {K} event
   * @param {(...args: ClientEvents[K]) => unknown} handler
   * @returns {() => void}
   */
  /**
   * Call `handler` whenever `event` happens: one of ClientEvents, or the `type` of any frame that is no event of a group.
   *
   * @template {string} T
   * @overload
   * @param {T extends keyof ClientEvents ? never : T} event
   * @param {(data: any, frame: Frame) => unknown} handler
   * @returns {() => void} Removes the handler.
   */
  /**
   * @param {string} event
   * @param {(...args: any[]) => unknown} handler
   * @returns {() => void}
   */
  on(event, handler) {
    (this.eventHandlers[event] ??= []).push(handler);
    return () => {
      this.eventHandlers[event] = /** @type {Function[]} */ (this.eventHandlers[event]).filter((other) => other !== handler);
    };
  }

  /**
   * Call the handlers of `event`, in the order in which they came. Without one, an `error` or a `violation` goes to the console.
   *
   * @param {string} event
   * @param {...unknown} args
   */
  emit(event, ...args) {
    const handlers = this.eventHandlers[event] ?? [];
    if ((event === 'error' || event === 'violation') && !handlers.length) console.error(`orbital: ${event}:`, ...args);
    // Called now; what it throws, or its promise is rejected with, is reported asynchronously.
    for (const handler of [...handlers])
      new Promise((resolve) => resolve(handler(...args))).catch((cause) =>
        event === 'error' ? console.error(cause) : this.emit('error', wrap('HANDLER', cause)),
      );
  }
}
