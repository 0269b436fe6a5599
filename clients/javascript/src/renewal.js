/** Token renewal: when to get a newer token before the current one expires. */
import { after } from './timers.js';

/** The last time to ask, before the end: a token function that caches renews late. */
const SHORTLY_BEFORE_MS = 10_000;

/**
 * Ask at three quarters of a token's life, and again shortly before its end if nothing newer came.
 *
 * @param {() => void} ask
 */
export function makeRenewal(ask) {
  /** @type {any} */
  let timer;
  let early = false;

  return {
    /**
     * The server said when the token ends. Both times are of its clock: the one here may be wrong.
     *
     * @param {unknown} expiresAt RFC 3339; a server of the older protocol sends none.
     * @param {unknown} nowMs
     */
    until(expiresAt, nowMs) {
      const life = Date.parse(String(expiresAt)) - Number(nowMs);
      this.stop();
      if (!(life > 0)) return;
      const first = life * 0.75;
      early = true;
      timer = after(first, () => {
        early = false;
        timer = after(Math.max(life * 0.9, life - SHORTLY_BEFORE_MS) - first, ask);
        ask();
      });
    },
    /** The server said that the token ends soon: ask, unless most of a short life is left. */
    expiring() {
      if (!early) ask();
    },
    stop() {
      clearTimeout(timer);
      early = false;
    },
  };
}
