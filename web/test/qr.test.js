/** QR codes, as another program's decoder reads them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import jsQr from 'jsqr';
import { matchesScan as libraryMatches, safetyNumber } from '../../clients/e2ee/src/safety.js';
import { toBase64Url } from '../js/crypto/bytes.js';
import { matchesScan } from '../js/model/cipher-roster.js';
import { MAX_LETTERS, SIZE, qrCode } from '../js/model/qr.js';

/** Pixels of a module, and light modules around the code. */
const SCALE = 4;
const QUIET = 4;
const LETTERS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';

/** @param {boolean[][]} rows @returns {string | undefined} What the decoder reads in a picture of the code. */
function read(rows) {
  const side = (rows.length + 2 * QUIET) * SCALE;
  const pixels = new Uint8ClampedArray(side * side * 4).fill(255);
  for (let at = 0; at < side * side; at++) {
    const [x, y] = [at % side, Math.floor(at / side)].map((pixel) => Math.floor(pixel / SCALE) - QUIET);
    if (rows[y ?? 0]?.[x ?? 0]) pixels.fill(0, 4 * at, 4 * at + 3);
  }
  const decode = /** @type {(pixels: Uint8ClampedArray, width: number, height: number) => {data: string} | null} */ (
    /** @type {any} */ (jsQr).default ?? jsQr
  );
  return decode(pixels, side, side)?.data;
}

/** @param {number} length @param {number} seed @returns {string} */
function textOf(length, seed) {
  let state = seed * 2654435761;
  return Array.from({ length }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return LETTERS[state >>> 26];
  }).join('');
}

/** @param {boolean[][]} rows @param {[number, number][]} places */
const inverted = (rows, places) => {
  const copy = rows.map((row) => [...row]);
  for (const [x, y] of places) /** @type {boolean[]} */ (copy[y])[x] = !copy[y]?.[x];
  return copy;
};

/** @param {number} left @param {number} top @param {number} width @param {number} height @returns {[number, number][]} */
const area = (left, top, width, height) =>
  Array.from({ length: width * height }, (_, at) => [left + (at % width), top + Math.floor(at / width)]);

test('[QR1] A decoder of another program reads every text of up to 106 letters from its QR code.', () => {
  for (let length = 1; length <= MAX_LETTERS; length++) {
    const rows = qrCode(textOf(length, length));
    assert.equal(rows.length, SIZE);
    assert.equal(read(rows), textOf(length, length));
  }
});

test('[QR2] A text that does not fit is refused with its length.', () => {
  assert.throws(() => qrCode('a'.repeat(MAX_LETTERS + 1)), /a QR code for 107 letters: at most 106 fit/);
});

test('[QR3] A damaged QR code is read: with a spot of 64 modules, and with the format information lost in one of its two places.', () => {
  const text = textOf(99, 7);
  const rows = qrCode(text);
  for (const [left, top] of [
    [12, 12],
    [30, 16],
    [16, 30],
  ])
    assert.equal(read(inverted(rows, area(left ?? 0, top ?? 0, 8, 8))), text);
  const beside = area(8, 0, 1, 6);
  const behind = [...area(SIZE - 8, 8, 8, 1), ...area(8, SIZE - 7, 1, 7)];
  assert.equal(read(inverted(rows, beside)), text);
  assert.equal(read(inverted(rows, behind)), text);
});

test('[QR4] The mask with the lowest penalty is chosen: different texts use different masks.', () => {
  const masks = new Set();
  for (let seed = 1; seed <= 40; seed++) {
    const rows = qrCode(textOf(99, seed));
    // The three bits of the mask in the format information, ISO/IEC 18004 7.9.1.
    masks.add([0, 1, 2].map((bit) => Number(rows[8]?.[2 + bit]) ^ ([1, 0, 1][bit] ?? 0)).join(''));
  }
  assert.ok(masks.size >= 4, [...masks].join(' '));
});

test('[QR5] A scanned code is compared as the library compares it; a code that holds no safety number is none.', async () => {
  const people = [1, 2, 3].map((number) => ({ user: crypto.randomUUID(), identities: [new Uint8Array(33).fill(number)] }));
  const [ada, ben, cleo] = /** @type {[any, any, any]} */ (people);
  const codes = await Promise.all(
    [
      [ada, ben],
      [ben, ada],
      [ada, cleo],
      [cleo, ben],
    ].map(async ([one, other]) => (await safetyNumber(one, other)).scannable),
  );
  for (const own of codes)
    for (const scanned of codes) assert.equal(matchesScan(toBase64Url(own), toBase64Url(scanned)), libraryMatches(own, scanned));
  const [own = '', scanned = ''] = codes.map(toBase64Url);
  assert.equal(matchesScan(own, scanned), true);
  for (const other of ['', 'https://example.org/', `A${scanned.slice(1)}`, `${scanned}A`, '%'.repeat(scanned.length)])
    assert.equal(matchesScan(own, other), null, other);
});
