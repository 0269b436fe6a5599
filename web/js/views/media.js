/** Photos, videos and files in a thread: previews (thumbnail), downloads and uploads. */
import { h, put } from './dom.js';
import { icon } from './icons.js';
import { bubble } from './items.js';
import { LOCKED, size, WAITS } from './words.js';

/** @import {Downloads, View} from '../model/downloads.js' */
/** @import {Family} from '../model/family.js' */
/** @import {Group, Item, MediaInfo} from '../model/types.js' */
/** @import {Upload} from '../model/uploads.js' */
/** @import {ViewContext} from './home.js' */

/** A picture up to this size is downloaded automatically; a larger one, or a video, on request. */
const BY_ITSELF_BYTES = 12e6;
/** Widths of a frame: of a picture that is large enough, and of the smallest one. */
const FRAME_PX = 440;
const SMALL_PX = 160;
const GONE = 'The server keeps photos for 7 days, and has deleted this one. A member who saved it can send it again.';

/** @param {View} view @param {string} name */
function shown({ url = '', type = '' }, name) {
  if (type.startsWith('image/')) return h('img', { src: url, alt: name });
  if (type.startsWith('video/')) return h('video', { src: url, controls: true, playsinline: true, 'aria-label': name });
  if (type.startsWith('audio/')) return h('audio', { src: url, controls: true, 'aria-label': name });
  return h('a', { href: url, download: name, class: 'quiet' }, `Save ${name}`);
}

/**
 * @param {Downloads} downloads
 * @param {Group} group
 * @param {Item & {info: MediaInfo}} item
 */
function frameOf(downloads, group, item) {
  const { name, type, width, height } = item.info;
  const view = downloads.views.get(item.id);
  const fetch = () => downloads.fetch(group, item);
  const picture = type.startsWith('image/');
  const frame = h('div', { class: picture ? 'frame' : 'frame video' });
  if (width && height) frame.style.aspectRatio = `${width} / ${height}`;
  if (width && width < FRAME_PX) frame.style.width = `${Math.max(width, SMALL_PX)}px`;
  // What is on this device stays in sight when the server has deleted it.
  if (view?.state === 'ready') return put(frame, shown(view, name));
  if (item.gone || view?.state === 'gone') return put(frame, h('p', { class: 'hint' }, GONE));
  if (view?.state === 'loading') return put(frame, h('progress', { max: 1, value: view.done, 'aria-label': `Opening ${name}` }));
  if (view?.state === 'failed')
    return put(
      frame,
      h('p', { class: 'locked' }, 'It could not be opened.'),
      h('button', { type: 'button', class: 'quiet', onclick: fetch }, 'Retry'),
    );
  const bytes = item.bytes ?? 0;
  const label = picture ? 'Show' : /^(video|audio)\//.test(type) ? 'Play' : 'Download';
  if (picture && bytes <= BY_ITSELF_BYTES) queueMicrotask(fetch);
  else
    put(
      frame,
      h(
        'button',
        { type: 'button', class: 'quiet', onclick: fetch },
        icon(label === 'Download' ? 'down' : 'play'),
        `${label} (${size(bytes)})`,
      ),
    );
  return frame;
}

/** @param {ViewContext} context @param {Group} group @param {Item} item */
export function mediaNode({ family: { downloads } }, group, item) {
  const { info, bytes = 0 } = item;
  if (!info) return bubble(item.author, item.mine, item.atMs, h('p', { class: 'locked' }, icon('lock'), item.waits ? WAITS : LOCKED));
  const url = downloads.views.get(item.id)?.url;
  const save = url ? [' · ', h('a', { href: url, download: info.name }, 'Save')] : null;
  const caption = h('figcaption', {}, info.name, ' · ', size(bytes), ...(save ?? []));
  return bubble(item.author, item.mine, item.atMs, h('figure', {}, frameOf(downloads, group, { ...item, info }), caption));
}

/** @param {Family} family @param {Upload} upload @returns {Upload['state']} The state that is shown: the SDK keeps retrying while there is no server. */
export const shownState = ({ state, polled }, upload) =>
  upload.state === 'sending' && state.status !== 'open' && !polled ? 'waiting' : upload.state;

/** @param {ViewContext} context @param {Upload} upload */
export function uploadNode({ family }, upload) {
  const { session, uploads } = family;
  const states = {
    sealing: 'encrypting…',
    waiting: 'waiting for the server',
    sending: `${Math.round(upload.done * 100)} %`,
    paused: 'paused',
    failed: `Not sent: ${upload.error}`,
  };
  const button = (/** @type {string} */ label, /** @type {() => void} */ onclick) =>
    h('button', { type: 'button', class: 'link', onclick }, label);
  const stopped = upload.state === 'paused' || upload.state === 'failed';
  const actions = stopped
    ? [
        button(upload.state === 'paused' ? 'Resume' : 'Retry', () => void uploads.resume(upload)),
        button('Discard', () => uploads.discard(upload.id)),
      ]
    : [button('Pause', () => uploads.pause(upload.id))];
  return bubble(
    session.username,
    true,
    null,
    h('p', { class: 'file' }, icon('photo'), upload.name),
    h('progress', { max: 1, value: upload.done, 'aria-label': `Sending ${upload.name}` }),
    h('p', { class: 'fate' }, `${states[shownState(family, upload)]} `, ...actions),
  );
}
