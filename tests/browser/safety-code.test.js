/** The QR code of a safety number in groups of version 2: what it holds, and another member's camera that compares it. */
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import jsQr from 'jsqr';
import { qrCode } from '../../web/js/model/qr.js';
import { launch, missing as noChromium, Person } from './chromium.js';
import { missing as noServer, Server } from './server.js';

/** @typedef {{width: number, height: number, grey: number[]}} Picture */

const how = { skip: noServer || noChromium, timeout: 900_000 };
const DECODER = createRequire(import.meta.url).resolve('jsqr');
const decode = /** @type {(pixels: Uint8ClampedArray, width: number, height: number) => {data: string} | null} */ (
  /** @type {any} */ (jsQr).default ?? jsQr
);
/** Of the camera's pictures. */
const [WIDTH, HEIGHT] = [640, 480];

/** @type {Server} */
let server;
/** @type {import('playwright-core').Browser} */
let browser;
/** What the browser's camera shows: a file with one picture. @type {string} */
let folder;

before(async () => {
  if (how.skip) return;
  folder = await mkdtemp(join(tmpdir(), 'orbital-camera-'));
  await show({ width: 0, height: 0, grey: [] });
  server = await new Server().start();
  browser = await launch([
    '--use-fake-ui-for-media-stream',
    '--use-fake-device-for-media-stream',
    `--use-file-for-fake-video-capture=${join(folder, 'camera.y4m')}`,
  ]);
});

after(async () => {
  await browser?.close();
  for (const one of Server.running) await one.close();
  if (folder) await rm(folder, { recursive: true });
});

/** Hold a picture before the camera, on a grey ground. @param {Picture} picture */
async function show({ width, height, grey }) {
  const frame = Buffer.alloc((WIDTH * HEIGHT * 3) / 2, 128);
  const [left, top] = [(WIDTH - width) >> 1, (HEIGHT - height) >> 1];
  for (const [at, value] of grey.entries()) frame[(top + Math.floor(at / width)) * WIDTH + left + (at % width)] = value;
  const header = `YUV4MPEG2 W${WIDTH} H${HEIGHT} F5:1 Ip A1:1 C420jpeg\nFRAME\n`;
  await writeFile(join(folder, 'camera.y4m'), Buffer.concat([Buffer.from(header), frame]));
}

/** @param {Person} person @returns {Promise<Picture>} The code as it is on the screen. */
async function photographed({ page }) {
  const png = await page.locator('svg.qr').screenshot();
  return page.evaluate(async (base64) => {
    const bitmap = await createImageBitmap(new Blob([Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0))]));
    const { width, height } = bitmap;
    const context = /** @type {OffscreenCanvasRenderingContext2D} */ (new OffscreenCanvas(width, height).getContext('2d'));
    context.drawImage(bitmap, 0, 0);
    const { data } = context.getImageData(0, 0, width, height);
    return { width, height, grey: [...data].filter((_, at) => at % 4 === 0) };
  }, png.toString('base64'));
}

/** @param {Picture} picture @returns {string} What another program reads in it. */
function read({ width, height, grey }) {
  const found = decode(new Uint8ClampedArray(grey.flatMap((value) => [value, value, value, 255])), width, height);
  assert.ok(found, 'a QR code is in the picture');
  return found.data;
}

/** A code with any text. @param {string} text @returns {Picture} */
function drawn(text) {
  const rows = qrCode(text);
  const width = (rows.length + 8) * 6;
  const grey = Array.from({ length: width * width }, (_, at) => {
    const [x, y] = [Math.floor((at % width) / 6) - 4, Math.floor(at / width / 6) - 4];
    return rows[y]?.[x] ? 0 : 255;
  });
  return { width, height: width, grey };
}

/** The digits of a half of a safety number. @param {Buffer} half @returns {string} */
const digits = (half) => [0, 5, 10, 15, 20, 25].map((at) => String(half.readUIntBE(at, 5) % 100_000).padStart(5, '0')).join('');

/** @param {Person} person @param {Person} other */
async function opensDevices({ page }, other) {
  await page.getByRole('button', { name: /^Members/ }).click();
  await page.getByRole('button', { name: `Devices of ${other.name}` }).click();
  await page.locator('svg.qr').waitFor();
  return page.getByRole('dialog', { name: `Devices of ${other.name}` });
}

/** This Chromium has no detector of its own: it reads with a program that others wrote. */
function readsCodes() {
  const { jsQR } = /** @type {any} */ (globalThis);
  class BarcodeDetector {
    static getSupportedFormats = async () => ['qr_code'];
    /** @param {HTMLVideoElement} video */
    async detect(video) {
      const { videoWidth: width, videoHeight: height } = video;
      const context = /** @type {OffscreenCanvasRenderingContext2D} */ (new OffscreenCanvas(width, height).getContext('2d'));
      context.drawImage(video, 0, 0);
      const found = jsQR(context.getImageData(0, 0, width, height).data, width, height);
      return found ? [{ rawValue: found.data }] : [];
    }
  }
  Object.assign(globalThis, { BarcodeDetector });
}

test(
  '[CHGKEY9] two members are shown QR codes of one safety number; a camera that reads the other one’s code marks them as verified, and one that reads another code says so',
  how,
  async () => {
    const ada = await Person.sitDown(browser, 'ada_codes', { colorScheme: 'dark' });
    await ada.signUp(server.url);
    await ada.makeGroup('The Lovelaces', { changing: true });
    const ben = await Person.sitDown(browser, 'ben_codes', { permissions: ['camera'], viewport: { width: 360, height: 740 } });
    await ben.page.addInitScript({ path: DECODER });
    await ben.page.addInitScript(readsCodes);
    await ben.signUp(await ada.inviteLink());
    await ben.page.getByRole('heading', { level: 1, name: 'The Lovelaces' }).waitFor();

    const atAda = await opensDevices(ada, ben);
    const atBen = await opensDevices(ben, ada);
    const number = (await ada.page.locator('.safety-number').textContent())?.replace(/\s/g, '');
    assert.equal((await ben.page.locator('.safety-number').textContent())?.replace(/\s/g, ''), number);
    await atAda.getByRole('img', { name: `QR code of your safety number with ${ben.name}` }).waitFor();
    await atAda.getByText('This browser reads no QR codes').waitFor();
    const [ofAda, ofBen] = [await photographed(ada), await photographed(ben)];
    const [held, mirrored] = [Buffer.from(read(ofAda), 'base64url'), Buffer.from(read(ofBen), 'base64url')];
    assert.deepEqual([held.length, mirrored.length], [74, 74]);
    const halves = [held.subarray(6, 38), held.subarray(42)];
    assert.deepEqual([mirrored.subarray(42), mirrored.subarray(6, 38)], halves);
    assert.equal(halves.map(digits).sort().join(''), number);

    const scan = async (/** @type {Picture} */ picture, /** @type {string | RegExp} */ text) => {
      await show(picture);
      await atBen.getByRole('button', { name: `Scan the code of ${ada.name}` }).click();
      await atBen.getByText(text).waitFor();
    };
    await scan(drawn('https://example.org/'), 'This QR code holds no safety number.');
    await scan(ofBen, 'The safety numbers differ');
    assert.equal(await atBen.getByText(/^Verified/).count(), 0);
    await scan(ofAda, /^Verified/);
    const camera = await ben.page.evaluate(() => document.querySelectorAll('video').length);
    assert.equal(camera, 0);
    assert.deepEqual([...ada.complaints, ...ben.complaints], []);
    await ada.close();
    await ben.close();
  },
);
