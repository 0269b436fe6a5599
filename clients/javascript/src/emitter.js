/** Handlers by name. */
import { wrap } from './errors.js';

/**
 * Calls handlers by the name of what happened. A handler that throws, or whose promise is rejected, is reported as
 * `error` with code `HANDLER`, and hurts nobody else.
 */
export class Emitter {
  /** @type {Record<string, Function[]>} The handlers by name. */
  eventHandlers = Object.create(null);

  /**
   * Call `handler` whenever `event` happens.
   *
   * @param {string} event
   * @param {(...args: any[]) => unknown} handler
   * @returns {() => void} Takes the handler away again.
   */
  on(event, handler) {
    (this.eventHandlers[event] ??= []).push(handler);
    return () => {
      this.eventHandlers[event] = (this.eventHandlers[event] ?? []).filter((other) => other !== handler);
    };
  }

  /**
   * Call the handlers of `event`, in the order in which they came. Without one, an `error` goes to the console.
   *
   * @param {string} event
   * @param {...unknown} args
   */
  emit(event, ...args) {
    const handlers = this.eventHandlers[event] ?? [];
    if (event === 'error' && !handlers.length) console.error('orbital:', ...args);
    for (const handler of [...handlers]) {
      /** @param {unknown} cause */
      const failed = (cause) => (event === 'error' ? console.error('orbital:', cause) : this.emit('error', wrap('HANDLER', cause)));
      try {
        const result = handler(...args);
        if (result instanceof Promise) result.catch(failed);
      } catch (cause) {
        failed(cause);
      }
    }
  }
}
