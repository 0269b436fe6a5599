/** The drawer "What the server sees": frames and requests as they pass, beside what the same bytes are to a member. */
import { open } from './crypto.js';
import { h, icon, keyed, put } from './dom.js';

/** @typedef {import('./family.js').Family} Family */
/** @typedef {import('./traffic-recorder.js').Seen} Seen */

const PROBE_EVERY_MS = 5000;

/** The kind under which each sealed field of an event is bound. @type {Record<string, (data: any) => string>} */
const KINDS = {
  encrypted_title: () => 'thread-title',
  encrypted_body: (data) => (data.reply_id ? `reply/${data.thread_id}` : 'thread-body'),
  encrypted_metadata: (data) => `media-info/${data.media_id}`,
};

/** What of a frame stands in its line. */
const WORDS = /** @type {Record<string, string>} */ ({
  ping: 'are you there?',
  pong: 'yes',
  auth_success: 'the token holds',
  subscribe: 'which groups',
  subscribed: 'heard from here on',
  typing_indicator: 'somebody writes',
});

/**
 * @param {Family} family
 * @param {() => void} close
 */
export function makeDrawer(family, close) {
  const { recorder } = family;
  const facts = h('dl', { class: 'facts' });
  const list = h('ol', { class: 'frames' });
  const drop = h('button', { type: 'button', class: 'quiet', onclick: () => recorder.drop() }, 'Drop the line');
  const element = h(
    'aside',
    { class: 'sees', 'aria-label': 'What the server sees', hidden: true },
    h(
      'header',
      {},
      h('h2', {}, 'What the server sees'),
      h('button', { type: 'button', class: 'quiet round', 'aria-label': 'Close what the server sees', onclick: close }, icon('close')),
    ),
    h('p', { class: 'hint' }, 'Everything that passes, live. The long words are ciphertext: the server numbers and passes them on, and can open none. Open a line to compare.'),
    facts,
    h('div', { class: 'actions start' }, drop),
    // A scrolling place must be reachable by keyboard.
    h('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': 'Frames' }, list),
  );

  /** @param {string} name @param {string} value @param {string} [tone] */
  const fact = (name, value, tone = '') => h('div', { class: tone }, h('dt', {}, name), h('dd', {}, value));

  const show = () => {
    if (element.hidden) return;
    const { latencyMs, opened, checked, broken, frames, connected } = recorder;
    put(
      facts,
      fact('Latency', connected && latencyMs !== undefined ? `${latencyMs < 10 ? latencyMs.toFixed(1) : Math.round(latencyMs)} ms` : '–'),
      fact('Reconnections', String(Math.max(0, opened - 1))),
      fact('Chain', broken ? `${broken} of ${checked} ✗` : `${checked} ✓`, broken ? 'bad' : 'good'),
    );
    drop.disabled = !connected;
    keyed(list, [...frames].reverse(), ({ number }) => String(number), () => '', line);
  };

  /** @param {Seen} seen */
  const line = (seen) => {
    const { way, type, text, atMs, seq, chained } = seen;
    const details = h('details', {
      ontoggle: () => {
        if (details.open && details.children.length === 1) details.append(...inside(seen));
      },
    });
    put(
      details,
      h(
        'summary',
        {},
        h('span', { class: `way ${way}`, title: way === 'in' ? 'from the server' : 'to the server' }, way === 'in' ? '↓' : '↑', h('span', { class: 'sr' }, way === 'in' ? ' from the server ' : ' to the server ')),
        h('span', { class: 'type' }, type),
        seq ? h('span', { class: 'seq' }, `#${seq}`) : null,
        chained === undefined ? null : h('span', { class: chained ? 'chain' : 'chain bad' }, chained ? '✓' : '✗ chain', h('span', { class: 'sr' }, chained ? ' in the chain' : '')),
        h('span', { class: 'peek' }, peek(type, text)),
        h('span', { class: 'at' }, new Date(atMs).toLocaleTimeString('en', { hour12: false })),
      ),
    );
    return h('li', {}, details);
  };

  /** @param {string} type @param {string} text @returns {string} The beginning of what is sealed in it. */
  const peek = (type, text) => /"encrypted_\w+":"([^"]{1,48})/.exec(text)?.[1] ?? WORDS[type] ?? (text.startsWith('{') ? '' : text);

  /** @param {Seen} seen */
  const inside = ({ text }) => {
    let frame;
    try {
      frame = JSON.parse(text);
    } catch {
      return [h('pre', { tabindex: '0' }, text || 'nothing')];
    }
    const json = JSON.stringify(frame, null, 1);
    const pre = h('pre', { tabindex: '0' });
    // Ciphertext is marked, so that one sees at a glance what is left for the server.
    for (const part of json.split(/("encrypted_\w+": ")([^"]*)/)) pre.append(/^[\w+/=-]{24,}$/.test(part) ? h('mark', {}, part) : part);
    const yours = h('div', { class: 'yours' });
    void read(frame, yours);
    return [pre, yours];
  };

  /** @param {any} frame @param {HTMLElement} place */
  const read = async (frame, place) => {
    const group = family.groups.get(frame.group_id);
    const data = frame.data ?? {};
    for (const [name, kindOf] of Object.entries(KINDS)) {
      if (!group || typeof data[name] !== 'string') continue;
      const text = await open(group.key, group.id, kindOf(data), data[name]);
      place.append(h('p', {}, h('strong', {}, `${name.replace('encrypted_', '')}, as you read it: `), text ?? 'cannot be opened with this key'));
    }
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
    },
  };
}
