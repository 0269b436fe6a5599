/** The QR code of a safety number, and the camera that compares another person's. */
import { qrCode } from '../../model/qr.js';
import { h, put } from '../dom.js';
import { say } from '../window.js';

/** Light modules around a code (ISO/IEC 18004, 6.3.8). */
const QUIET = 4;
/** Between two pictures of the camera that are read. */
const PAUSE_MS = 150;

/** @typedef {{detect: (picture: HTMLVideoElement) => Promise<{rawValue: string}[]>}} Detector */
/** @typedef {{new (how: {formats: string[]}): Detector, getSupportedFormats: () => Promise<string[]>}} Detectors */

/** @param {string} text @param {string} label @returns {SVGElement} Black on white in every colour scheme: readers need it. */
function picture(text, label) {
  const rows = qrCode(text);
  const side = rows.length + 2 * QUIET;
  const dark = rows.flatMap((row, y) => row.map((one, x) => (one ? `M${x + QUIET} ${y + QUIET}h1v1h-1z` : '')));
  /** @param {string} name @param {Record<string, string>} attributes */
  const make = (name, attributes) => {
    const node = document.createElementNS('http://www.w3.org/2000/svg', name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    return node;
  };
  const svg = make('svg', { viewBox: `0 0 ${side} ${side}`, class: 'qr', role: 'img', 'aria-label': label });
  svg.append(
    make('path', { d: `M0 0h${side}v${side}H0z`, fill: '#fff' }),
    make('path', { d: dark.join(''), fill: '#000', 'shape-rendering': 'crispEdges' }),
  );
  return svg;
}

/** @returns {Promise<Detector | null>} Null where the browser reads no QR codes. */
async function detector() {
  const { BarcodeDetector } = /** @type {{BarcodeDetector?: Detectors}} */ (/** @type {unknown} */ (globalThis));
  const formats = (await BarcodeDetector?.getSupportedFormats()) ?? [];
  return BarcodeDetector && formats.includes('qr_code') ? new BarcodeDetector({ formats: ['qr_code'] }) : null;
}

/**
 * Show the camera until a code was read, or the picture has left the page.
 *
 * @param {Detector} reader
 * @param {HTMLVideoElement} video
 * @param {(text: string) => Promise<boolean>} read Whether this ends it.
 */
async function watch(reader, video, read) {
  const stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: 'environment' } });
  try {
    video.srcObject = stream;
    await video.play();
    while (video.isConnected) {
      const [code] = await reader.detect(video);
      if (code && (await read(code.rawValue))) return;
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    }
  } finally {
    for (const track of stream.getTracks()) track.stop();
  }
}

/**
 * @param {string} code What the QR code holds.
 * @param {string} username Of the other person.
 * @param {{matches: (scanned: string) => boolean | null, verify: () => Promise<void>}} how `matches`: whether a scanned code is the
 *   other person's half of this number, null where it is another kind of code. `verify`: the numbers are the same.
 * @returns {Promise<Node[]>}
 */
export async function safetyCode(code, username, { matches, verify }) {
  const reader = await detector();
  const place = h('div', { class: 'scan' });
  const outcome = h('p', { role: 'status' });
  const read = async (/** @type {string} */ scanned) => {
    const same = matches(scanned);
    if (same) await verify();
    else if (same === null) put(outcome, 'This QR code holds no safety number.');
    else {
      put(
        outcome,
        `The safety numbers differ: this is not the code that ${username} is shown for you, or somebody stands between you. Do not mark it as verified.`,
      );
      outcome.className = 'problem';
    }
    return same !== null;
  };
  const scan = async () => {
    const video = /** @type {HTMLVideoElement} */ (h('video', { class: 'scan', 'aria-label': 'Camera', muted: true, playsinline: true }));
    put(outcome);
    outcome.className = '';
    put(place, video);
    video.scrollIntoView({ block: 'nearest' });
    try {
      await watch(/** @type {Detector} */ (reader), video, read);
    } catch (error) {
      put(outcome, `The camera shows nothing: ${say(error)}. Compare the digits.`);
    }
    put(place, button);
    outcome.scrollIntoView({ block: 'nearest' });
  };
  const button = h('button', { type: 'button', class: 'quiet', onclick: scan }, `Scan the code of ${username}`);
  if (reader) put(place, button);
  return [
    picture(code, `QR code of your safety number with ${username}, for the camera of ${username}`),
    reader
      ? place
      : h('p', { class: 'hint' }, 'This browser reads no QR codes: compare the digits, or let the other person scan this code.'),
    outcome,
  ];
}
