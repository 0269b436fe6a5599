/** Describes the connection's state in plain words. */

/** @typedef {{tone: 'good' | 'wait' | 'off', text: string, plain: string, more: string}} Words `text` for the pill, `plain` for a screen reader, `more` for the strip. */

/** Shown where a login in front of the server answers in its place. */
export const LOGIN_NEEDED = 'Something in front of the server asks you to log in.';

/**
 * @param {object} facts
 * @param {import('/sdk/connection.js').ConnectionState} facts.state
 * @param {boolean} facts.offline The device has no network; this overrides a socket that has not noticed it.
 * @param {boolean} facts.caughtUp
 * @param {boolean} facts.loginProxy A proxy asks for a login, and answers in the server's place.
 * @param {boolean} facts.polled The server answers requests: only the connection has to wait.
 * @param {number} facts.nowMs
 * @returns {Words}
 */
export function describeConnection({ state, offline, caughtUp, loginProxy, polled, nowMs }) {
  if (offline) {
    const more = 'You are offline. What you write is saved on this device, and sent when you are online again.';
    return { tone: 'off', text: 'Offline', plain: 'Offline.', more };
  }
  if (state.status === 'open') {
    if (caughtUp) return { tone: 'good', text: 'Connected', plain: 'Connected. Everything is here.', more: '' };
    return { tone: 'wait', text: 'Catching up…', plain: 'Catching up.', more: '' };
  }
  if (loginProxy) {
    const more = `${LOGIN_NEEDED} What you write is saved on this device, and sent after that.`;
    return { tone: 'off', text: 'Login needed', plain: LOGIN_NEEDED, more };
  }
  if (!state.retry_at) return { tone: 'wait', text: 'Connecting…', plain: 'Connecting…', more: '' };
  const seconds = Math.max(1, Math.ceil((state.retry_at - nowMs) / 1000));
  if (polled) {
    const more = `The page checks for new messages every few seconds. It reconnects in ${seconds} s.`;
    return { tone: 'wait', text: `Reconnecting in ${seconds} s`, plain: 'The page checks for new messages every few seconds.', more };
  }
  return {
    tone: 'off',
    text: `Reconnecting in ${seconds} s`,
    plain: 'The connection is lost. The page reconnects automatically.',
    more: `The connection is lost. Reconnecting in ${seconds} s. What you write is saved on this device, and sent then.`,
  };
}
