/** React hooks, for React 18 and later. */
import { useCallback, useEffect, useRef, useState, useSyncExternalStore } from 'react';
import { after } from './timers.js';

/** @import {OrbitalClient} from './client.js' */
/** @import {ConnectionState} from './connection.js' */
/** @import {OrbitalError} from './errors.js' */
/** @import {Position, Reset} from './subscription.js' */
/** @import {OrbitalEvent, TypingIndicator} from './wire.js' */

/** How long somebody counts as typing after the last indicator: the server itself sends the stop after 6 s. */
const TYPING_SHOWN_MS = 7000;

/**
 * @typedef {object} GroupEvents
 * @property {OrbitalEvent[]} events The latest ones, oldest first.
 * @property {boolean} caughtUp Whether these reach up to now; false while the client is disconnected.
 * @property {Reset | undefined} reset Set when events are missing before the first of `events`; fetch the group again.
 * @property {OrbitalError | undefined} error Set when the server refused or removed us.
 */

/** @type {GroupEvents} */
const NOTHING = { events: [], caughtUp: false, reset: undefined, error: undefined };

/**
 * Receive a group's events while the component is mounted.
 *
 * Events that arrive together make one render. Without `since` and without a position in the client's store it receives what comes from
 * now on.
 *
 * @param {OrbitalClient} client
 * @param {string | null | undefined} groupId Null receives nothing.
 * @param {object} [options] Read when the group or the client changes.
 * @param {number | Position} [options.since] 0 is from the group's first event.
 * @param {number} [options.limit] How many events are kept in `events`; 500 when left out.
 * @param {(event: OrbitalEvent) => void} [options.onEvent] Called with each, too.
 * @returns {GroupEvents}
 */
export function useGroupEvents(client, groupId, options = {}) {
  // With whom it belongs to: in the render that changes the group, the state is still that of the last one.
  const [shown, show] = useState({ client, groupId, now: NOTHING });
  const latest = useRef(options);
  useEffect(() => {
    latest.current = options;
  });
  useEffect(() => {
    if (!groupId) return;
    let now = NOTHING;
    let due = false;
    let live = true;
    /** @param {Partial<GroupEvents>} change */
    const change = (change) => {
      now = { ...now, ...change };
      if (due) return;
      due = true;
      queueMicrotask(() => {
        due = false;
        if (live) show({ client, groupId, now });
      });
    };
    const { since } = latest.current;
    const subscription = client.subscribe(groupId, {
      since,
      // What a component shows begins with `since` each time it is mounted: it keeps no position of its own.
      ...(since !== undefined && { store: null }),
      onEvent(event) {
        const { limit = 500, onEvent } = latest.current;
        change({ events: [...now.events, event].slice(-limit) });
        onEvent?.(event);
      },
      onReset: (reset) => change({ reset, events: [] }),
      onCaughtUp: () => change({ caughtUp: true }),
      onEnd: (error) => change({ error }),
    });
    const off = client.on('state', ({ status }) => {
      if (status !== 'open' && now.caughtUp) change({ caughtUp: false });
    });
    return () => {
      live = false;
      off();
      subscription.close();
    };
  }, [client, groupId]);
  return shown.client === client && shown.groupId === groupId ? shown.now : NOTHING;
}

/**
 * Where the connection stands.
 *
 * @param {OrbitalClient} client
 * @returns {ConnectionState}
 */
export function useConnectionState(client) {
  const subscribe = useCallback((/** @type {() => void} */ changed) => client.on('state', changed), [client]);
  const read = () => client.state;
  return useSyncExternalStore(subscribe, read, read);
}

/**
 * Who else writes in a thread, and how to say that we do.
 *
 * @param {OrbitalClient} client
 * @param {string | null | undefined} threadId Null shows and sends nothing.
 * @returns {{typists: TypingIndicator[], typing: (isTyping?: boolean) => void}} Call `typing()` at each key; it is throttled, and stops automatically.
 */
export function useTyping(client, threadId) {
  const [typists, show] = useState(/** @type {TypingIndicator[]} */ ([]));
  useEffect(() => {
    show([]);
    if (!threadId) return;
    /** @type {Map<string, any>} */
    const timers = new Map();
    /** @param {string} userId */
    const gone = (userId) => show((now) => now.filter(({ user_id }) => user_id !== userId));
    const off = client.on('typing_indicator', (/** @type {TypingIndicator} */ data) => {
      if (data.thread_id !== threadId) return;
      clearTimeout(timers.get(data.user_id));
      if (!data.is_typing) return gone(data.user_id);
      timers.set(
        data.user_id,
        after(TYPING_SHOWN_MS, () => gone(data.user_id)),
      );
      show((now) => (now.some(({ user_id }) => user_id === data.user_id) ? now : [...now, data]));
    });
    return () => {
      off();
      for (const timer of timers.values()) clearTimeout(timer);
      client.typing(threadId, false);
    };
  }, [client, threadId]);
  const typing = useCallback((isTyping = true) => threadId && client.typing(threadId, isTyping), [client, threadId]);
  // What belongs to the last thread is not shown in the render that changes it.
  return { typists: typists.filter(({ thread_id }) => thread_id === threadId), typing };
}
