/** The states of a subscription at the server, as a table: the Python SDK's `protocol/subscription_state.py` has the same. */

/**
 * - `off`: not subscribed on this connection. `asked`: `subscribe` was sent. `on`: `subscribed` named the group.
 * - `ended`: nothing more comes, and its subscriptions end.
 *
 * @typedef {'off' | 'asked' | 'on' | 'ended'} SubscriptionState
 */

/**
 * - `ask`: we send `subscribe`. `confirm`: `subscribed` names the group.
 * - `defer`: an `error` that is retryable names it. `refuse`: another `error` does.
 * - `dismiss`: `unsubscribed` names it without our request. `lose`: the connection is lost.
 *
 * @typedef {'ask' | 'confirm' | 'defer' | 'refuse' | 'dismiss' | 'lose'} Word
 */

/**
 * Every step that there is; the diagram in docs/reference/javascript.md is drawn from it. A word without a step is ignored: it came late.
 *
 * @type {Record<SubscriptionState, Partial<Record<Word, SubscriptionState>>>}
 */
export const STEPS = {
  off: { ask: 'asked', lose: 'off' },
  asked: { confirm: 'on', defer: 'off', refuse: 'ended', dismiss: 'ended', lose: 'off' },
  on: { confirm: 'on', defer: 'off', refuse: 'ended', dismiss: 'ended', lose: 'off' },
  ended: {},
};
