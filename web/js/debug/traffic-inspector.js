/** The drawer "What the server sees": live frames and requests, with the plain text that a member reads. */
import { h, keyed, put } from '../views/dom.js';
import { icon } from '../views/icons.js';

/** @import {Family} from '../model/family.js' */
/** @import {Recorder, Seen} from './traffic-recorder.js' */

const PROBE_EVERY_MS = 5000;

/** The kind under which each sealed field of an event is bound. @type {Record<string, (data: any) => string>} */
const KINDS = {
  encrypted_title: () => 'thread-title',
  encrypted_body: (data) => (data.reply_id ? `reply/${data.thread_id}` : 'thread-body'),
  encrypted_metadata: (data) => `media-info/${data.media_id}`,
};

/** The summary of each frame type. */
const WORDS = /** @type {Record<string, string>} */ ({
  ping: 'is the connection alive?',
  pong: 'yes',
  auth_success: 'the token is valid',
  subscribe: 'for these groups',
  subscribed: 'events follow from this number',
  typing_indicator: 'somebody is writing',
});

/** @param {string} type @param {string} text @returns {string} The start of its ciphertext. */
const peek = (type, text) => /"encrypted_\w+":"([^"]{1,48})/.exec(text)?.[1] ?? WORDS[type] ?? (text.startsWith('{') ? '' : text);

/** @param {string} name @param {string} value @param {string} [tone] */
const fact = (name, value, tone = '') => h('div', { class: tone }, h('dt', {}, name), h('dd', {}, value));

/** @param {Record<string, any>} data */
const carrierOf = ({ reply_id, media_id, thread_id, author_id }) => ({ which: reply_id ?? media_id ?? thread_id ?? '', author: author_id });

/** @param {Family} family @param {any} frame @param {HTMLElement} target Filled with the frame's plain text. */
async function translate(family, frame, target) {
  const group = family.groups.get(frame.group_id);
  const data = frame.data ?? {};
  for (const [name, kindOf] of Object.entries(KINDS)) {
    if (!group || typeof data[name] !== 'string') continue;
    const text = await family.versions.open(group, kindOf(data), data[name], carrierOf(data));
    target.append(
      h('p', {}, h('strong', {}, `${name.replace('encrypted_', '')}, as you read it: `), text ?? 'cannot be opened with this key'),
    );
  }
}

/** @param {Family} family @param {string} text @returns {HTMLElement[]} */
function contents(family, text) {
  let frame;
  try {
    frame = JSON.parse(text);
  } catch {
    return [h('pre', { tabindex: '0' }, text || 'nothing')];
  }
  const pre = h('pre', { tabindex: '0' });
  // Ciphertext is marked, so that the rest shows what the server can read.
  for (const part of JSON.stringify(frame, null, 1).split(/("encrypted_\w+": ")([^"]*)/))
    pre.append(/^[\w+/=-]{24,}$/.test(part) ? h('mark', {}, part) : part);
  const yours = h('div', { class: 'yours' });
  void translate(family, frame, yours);
  return [pre, yours];
}

/** @param {boolean} chained */
const chainMark = (chained) =>
  h(
    'span',
    { class: chained ? 'chain' : 'chain bad' },
    chained ? '✓' : '✗ chain',
    h('span', { class: 'sr' }, chained ? ' in the chain' : ''),
  );

/** @param {Family} family @param {Seen} seen */
function line(family, seen) {
  const { way, type, text, atMs, seq, chained } = seen;
  const from = way === 'in' ? 'from the server' : 'to the server';
  const toggled = () => {
    if (details.open && details.children.length === 1) details.append(...contents(family, text));
  };
  const summary = h(
    'summary',
    {},
    h('span', { class: `way ${way}`, title: from }, way === 'in' ? '↓' : '↑', h('span', { class: 'sr' }, ` ${from} `)),
    h('span', { class: 'type' }, type),
    seq ? h('span', { class: 'seq' }, `#${seq}`) : null,
    chained === undefined ? null : chainMark(chained),
    h('span', { class: 'peek' }, peek(type, text)),
    h('span', { class: 'at' }, new Date(atMs).toLocaleTimeString('en', { hour12: false })),
  );
  const details = h('details', { ontoggle: toggled }, summary);
  return h('li', {}, details);
}

/**
 * @param {Family} family
 * @param {Recorder} recorder
 * @param {() => void} close
 */
export function makeInspector(family, recorder, close) {
  const facts = h('dl', { class: 'facts' });
  const list = h('ol', { class: 'frames' });
  const drop = h('button', { type: 'button', class: 'quiet', onclick: () => recorder.drop() }, 'Drop the connection');
  const shut = h(
    'button',
    { type: 'button', class: 'quiet round', 'aria-label': 'Close what the server sees', onclick: close },
    icon('close'),
  );
  const hint =
    'Every frame and request, live. The marked text is ciphertext: the server numbers and forwards it, and cannot read it. Open a line to compare.';
  const element = h(
    'aside',
    { class: 'sees', 'aria-label': 'What the server sees', hidden: true },
    h('header', {}, h('h2', {}, 'What the server sees'), shut),
    h('p', { class: 'hint' }, hint),
    facts,
    h('div', { class: 'actions start' }, drop),
    // A scrollable region must be reachable by keyboard (WCAG 2.1.1).
    h('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': 'Frames' }, list),
  );

  /** @returns {[string, string]} */
  const chain = () => {
    const { checked, broken } = recorder;
    if (broken) return [`${broken} of ${checked} ✗`, 'bad'];
    return checked ? [`${checked} ✓`, 'good'] : ['–', ''];
  };
  const show = () => {
    if (element.hidden) return;
    const { latencyMs, opened, frames, connected } = recorder;
    const latency = connected && latencyMs !== undefined ? `${latencyMs < 10 ? latencyMs.toFixed(1) : Math.round(latencyMs)} ms` : '–';
    put(facts, fact('Latency', latency), fact('Reconnections', String(Math.max(0, opened - 1))), fact('Chain', ...chain()));
    drop.disabled = !connected;
    keyed(list, [...frames].reverse(), { keyOf: ({ number }) => String(number), versionOf: () => '', make: (seen) => line(family, seen) });
  };

  recorder.addEventListener('seen', show);
  const timer = setInterval(() => {
    if (!element.hidden && document.visibilityState === 'visible') recorder.probe();
  }, PROBE_EVERY_MS);

  return {
    element,
    /** @param {boolean} opened */
    toggle(opened) {
      element.hidden = !opened;
      if (opened) recorder.probe();
      show();
    },
    stop() {
      clearInterval(timer);
      recorder.removeEventListener('seen', show);
    },
  };
}
