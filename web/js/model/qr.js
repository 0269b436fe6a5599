/** QR codes (ISO/IEC 18004, model 2) of version 6 with error correction level M: one size, for texts of up to 106 letters. */

/** Modules on each side. */
export const SIZE = 41;
/** Letters that fit. */
export const MAX_LETTERS = 106;
/** Table 9: four blocks, each with its codewords of data and of error correction. */
const BLOCKS = 4;
const DATA = 27;
const CHECK = 16;
/** Table E.1: the centre of the one alignment pattern that no finder pattern covers, in both directions. */
const ALIGNMENT = 34;
/** Codewords that fill the rest, in turns (7.4.10). */
const PADDING = [0b11101100, 0b00010001];

// Arithmetic in GF(256) with the polynomial x^8 + x^4 + x^3 + x^2 + 1 (7.5.2).
const POWERS = [1];
for (let value = 1; POWERS.length < 255; POWERS.push(value)) value = value > 127 ? (value << 1) ^ 0x11d : value << 1;
/** @param {number} a @param {number} b */
const times = (a, b) => (a && b ? /** @type {number} */ (POWERS[(POWERS.indexOf(a) + POWERS.indexOf(b)) % 255]) : 0);

/** The product of (x - 2^i) for each i below CHECK: its coefficients behind the first, which is 1. */
let product = [1];
for (const power of POWERS.slice(0, CHECK)) product = [...product, 0].map((one, at) => one ^ times(product[at - 1] ?? 0, power));
const GENERATOR = product.slice(1);

/** @param {number[]} data @returns {number[]} The codewords of error correction of a block. */
function checksOf(data) {
  let rest = /** @type {number[]} */ (Array(CHECK).fill(0));
  for (const codeword of data) {
    const [first = 0, ...others] = rest;
    rest = [...others, 0].map((one, at) => one ^ times(GENERATOR[at] ?? 0, codeword ^ first));
  }
  return rest;
}

/** @param {string} text @returns {number[]} Its codewords in byte mode (7.4.5), in the order of placement (7.6). */
function codewordsOf(text) {
  const bytes = new TextEncoder().encode(text);
  if (bytes.length > MAX_LETTERS) throw new RangeError(`a QR code for ${bytes.length} letters: at most ${MAX_LETTERS} fit`);
  // The mode, the count, the text and the terminator are whole halves of a codeword.
  const halves = [4, ...[bytes.length, ...bytes].flatMap((byte) => [byte >> 4, byte & 15]), 0];
  const data = Array.from({ length: BLOCKS * DATA }, (_, at) => {
    const [high, low] = [halves[2 * at], halves[2 * at + 1]];
    return high === undefined || low === undefined ? /** @type {number} */ (PADDING[(at - halves.length / 2) % 2]) : (high << 4) | low;
  });
  const blocks = Array.from({ length: BLOCKS }, (_, at) => data.slice(at * DATA, (at + 1) * DATA));
  /** @param {number[][]} parts */
  const inTurns = (parts) => (parts[0] ?? []).flatMap((_, at) => parts.map((part) => part[at] ?? 0));
  return [...inTurns(blocks), ...inTurns(blocks.map(checksOf))];
}

/** Table 10: the modules that each mask inverts. @type {((x: number, y: number) => number)[]} */
const MASKS = [
  (x, y) => (x + y) % 2,
  (_, y) => y % 2,
  (x) => x % 3,
  (x, y) => (x + y) % 3,
  (x, y) => ((x / 3 + Math.floor(y / 2)) | 0) % 2,
  (x, y) => ((x * y) % 2) + ((x * y) % 3),
  (x, y) => (((x * y) % 2) + ((x * y) % 3)) % 2,
  (x, y) => (((x + y) % 2) + ((x * y) % 3)) % 2,
];

/** @typedef {(boolean | undefined)[][]} Grid Rows of modules; true is dark, undefined is free for data. */

/** @returns {Grid} The function patterns (6.3), with light modules where the format information will stand. */
function patterns() {
  const edge = SIZE - 7;
  /** @param {number} x @param {number} y @param {number} centreX @param {number} centreY */
  const ring = (x, y, centreX, centreY) => Math.max(Math.abs(x - centreX), Math.abs(y - centreY));
  /** @param {number} x @param {number} y */
  const moduleAt = (x, y) => {
    const finder = Math.min(ring(x, y, 3, 3), ring(x, y, edge + 3, 3), ring(x, y, 3, edge + 3));
    if (finder <= 4) return finder !== 2 && finder !== 4;
    const alignment = ring(x, y, ALIGNMENT, ALIGNMENT);
    if (alignment <= 2) return alignment !== 1;
    if (x === 6 || y === 6) return (x + y) % 2 === 0;
    if (x === 8 && y === edge - 1) return true;
    return (x === 8 && (y <= 8 || y >= edge)) || (y === 8 && (x <= 8 || x > edge - 2)) ? false : undefined;
  };
  return Array.from({ length: SIZE }, (_, y) => Array.from({ length: SIZE }, (_, x) => moduleAt(x, y)));
}

/** @param {number[]} codewords @param {Grid} free @param {(x: number, y: number) => number} mask @returns {boolean[][]} */
function placed(codewords, free, mask) {
  const rows = free.map((row) => row.map(Boolean));
  let bit = 0;
  // 7.7.3: in columns of two modules, from the right, upwards and downwards in turns; the vertical timing pattern is skipped.
  for (let right = SIZE - 1, up = true; right > 0; right -= 2, up = !up) {
    if (right === 6) right--;
    for (let step = 0; step < 2 * SIZE; step++) {
      const [x, y] = [right - (step % 2), up ? SIZE - 1 - (step >> 1) : step >> 1];
      const row = /** @type {boolean[]} */ (rows[y]);
      if (free[y]?.[x] !== undefined) continue;
      row[x] = (((codewords[bit >> 3] ?? 0) >> (7 - (bit & 7))) & 1) === Number(mask(x, y) !== 0);
      bit++;
    }
  }
  return rows;
}

/** Write the format information (7.9) of level M and a mask, twice. @param {boolean[][]} rows @param {number} mask */
function writeFormat(rows, mask) {
  let rest = mask << 10;
  for (let at = 14; at >= 10; at--) if ((rest >> at) & 1) rest ^= 0b10100110111 << (at - 10);
  const format = ((mask << 10) | rest) ^ 0b101010000010010;
  /** @param {number} x @param {number} y @param {number} bit */
  const write = (x, y, bit) => {
    /** @type {boolean[]} */ (rows[y])[x] = ((format >> bit) & 1) === 1;
  };
  for (let bit = 0; bit < 15; bit++) {
    // Both timing patterns are skipped.
    if (bit < 8) write(8, bit < 6 ? bit : bit + 1, bit);
    else write(bit === 8 ? 7 : 14 - bit, 8, bit);
    if (bit < 8) write(SIZE - 1 - bit, 8, bit);
    else write(8, SIZE - 15 + bit, bit);
  }
}

/** @param {boolean[][]} rows @returns {number} How hard it is to read (7.8.3); the mask with the lowest number is chosen. */
function penalty(rows) {
  let points = 0;
  let dark = 0;
  const columns = rows.map((_, x) => rows.map((row) => row[x]));
  for (const line of [...rows, ...columns]) {
    const text = line.map(Number).join('');
    for (const [run] of text.matchAll(/0{5,}|1{5,}/g)) points += run.length - 2;
    points += 40 * [...text.matchAll(/(?=10111010000|00001011101)/g)].length;
  }
  for (const [y, row] of rows.entries())
    for (const [x, one] of row.entries()) {
      if (one) dark++;
      if (x && y && one === row[x - 1] && one === rows[y - 1]?.[x] && one === rows[y - 1]?.[x - 1]) points += 3;
    }
  return points + 10 * Math.floor(Math.abs((dark / SIZE ** 2) * 100 - 50) / 5);
}

/**
 * Make the QR code of a text.
 *
 * @param {string} text At most MAX_LETTERS letters of ASCII.
 * @returns {boolean[][]} SIZE rows of SIZE modules; true is dark. A reader needs four light modules on each side besides.
 * @throws {RangeError} When the text is longer.
 */
export function qrCode(text) {
  const [codewords, free] = [codewordsOf(text), patterns()];
  const codes = MASKS.map((mask, number) => {
    const rows = placed(codewords, free, mask);
    writeFormat(rows, number);
    return { rows, points: penalty(rows) };
  });
  return codes.reduce((best, one) => (one.points < best.points ? one : best)).rows;
}
