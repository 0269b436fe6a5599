/**
 * SHA-256 (FIPS 180-4), piece by piece.
 *
 * `crypto.subtle` hashes only whole buffers, only asynchronously, and only on pages that came over HTTPS;
 * a medium of 500 MiB and a family server on a home network need none of these.
 */

/** @param {(n: number) => number} root @returns {Int32Array} The first 32 bits of the fractions of the first 64 primes' roots. */
function constants(root) {
  const made = new Int32Array(64);
  let count = 0;
  for (let n = 2; count < 64; n++) {
    let prime = true;
    for (let d = 2; d * d <= n; d++) if (n % d === 0) prime = false;
    // A double holds the roots with 44 or more bits behind the point: 32 of them are exact.
    if (prime) made[count++] = (root(n) % 1) * 2 ** 32;
  }
  return made;
}

const K = constants(Math.cbrt);
const START = constants(Math.sqrt).slice(0, 8);
const LETTERS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';

/** A hash in progress. It never keeps what it was given. */
export class Sha256 {
  #state = START.slice();
  #block = new Uint8Array(64);
  #words = new Int32Array(64);
  #length = 0;

  /**
   * Take the next bytes.
   *
   * @param {Uint8Array} bytes
   * @returns {this}
   */
  update(bytes) {
    let used = this.#length % 64;
    this.#length += bytes.length;
    let at = 0;
    while (at < bytes.length) {
      const taken = Math.min(64 - used, bytes.length - at);
      this.#block.set(bytes.subarray(at, at + taken), used);
      at += taken;
      used += taken;
      if (used === 64) {
        this.#compress();
        used = 0;
      }
    }
    return this;
  }

  /**
   * Finish. The hash is of no further use.
   *
   * @returns {Uint8Array<ArrayBuffer>} 32 bytes.
   */
  digest() {
    const bits = this.#length * 8;
    const padding = new Uint8Array(72 - ((this.#length + 8) % 64));
    padding[0] = 128;
    const view = new DataView(padding.buffer);
    view.setUint32(padding.length - 8, bits / 2 ** 32);
    view.setUint32(padding.length - 4, bits);
    this.update(padding);
    const out = new DataView(new ArrayBuffer(32));
    for (let i = 0; i < 8; i++) out.setInt32(i * 4, at(this.#state, i));
    return new Uint8Array(out.buffer);
  }

  #compress() {
    const w = this.#words;
    const block = this.#block;
    for (let i = 0; i < 64; i++) {
      if (i < 16) {
        const j = i * 4;
        w[i] = (at(block, j) << 24) | (at(block, j + 1) << 16) | (at(block, j + 2) << 8) | at(block, j + 3);
      } else {
        const x = at(w, i - 15);
        const y = at(w, i - 2);
        const s0 = turn(x, 7) ^ turn(x, 18) ^ (x >>> 3);
        const s1 = turn(y, 17) ^ turn(y, 19) ^ (y >>> 10);
        w[i] = at(w, i - 16) + s0 + at(w, i - 7) + s1;
      }
    }
    const state = this.#state;
    let a = at(state, 0),
      b = at(state, 1),
      c = at(state, 2),
      d = at(state, 3);
    let e = at(state, 4),
      f = at(state, 5),
      g = at(state, 6),
      h = at(state, 7);
    for (let i = 0; i < 64; i++) {
      const t1 = (h + (turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)) + ((e & f) ^ (~e & g)) + at(K, i) + at(w, i)) | 0;
      const t2 = (turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
      (h = g), (g = f), (f = e), (e = (d + t1) | 0), (d = c), (c = b), (b = a), (a = (t1 + t2) | 0);
    }
    [a, b, c, d, e, f, g, h].forEach((word, i) => {
      state[i] = at(state, i) + word;
    });
  }
}

/** @param {ArrayLike<number>} list @param {number} i @returns {number} */
const at = (list, i) => /** @type {number} */ (list[i]);

/** @param {number} x @param {number} n @returns {number} `x` rotated to the right by `n` bits. */
const turn = (x, n) => (x >>> n) | (x << (32 - n));

/**
 * Hash a text.
 *
 * @param {string} text Hashed as UTF-8.
 * @returns {string} SHA-256 in base64url without padding (RFC 4648 §5): 43 characters.
 */
export function digest(text) {
  const bytes = new Sha256().update(new TextEncoder().encode(text)).digest();
  let out = '';
  for (let i = 0; i < 32; i += 3) {
    const three = (at(bytes, i) << 16) | ((bytes[i + 1] ?? 0) << 8) | (bytes[i + 2] ?? 0);
    for (let shift = 18; shift >= 0; shift -= 6) out += LETTERS[(three >> shift) & 63];
  }
  return out.slice(0, 43);
}
