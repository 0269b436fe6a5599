/** The field for a reply. Its text is stored as a draft until it is sent. */
import { h } from './dom.js';
import { icon } from './icons.js';
import { isConfirming, tooLong } from './input.js';

/** @import {Group, Thread} from '../model/types.js' */
/** @import {ViewContext} from './home.js' */

const MAX_HEIGHT_PX = 220;

/**
 * @param {ViewContext} context
 * @param {Group} group
 * @param {Thread} thread
 * @param {() => void} toEnd
 */
export function makeComposer({ family }, group, thread, toEnd) {
  const draftOf = { groupId: group.id, key: /** @type {CryptoKey} */ (group.key) };
  const problem = h('p', { class: 'problem', role: 'alert' });
  const grow = () => {
    area.style.height = 'auto';
    area.style.height = `${Math.min(area.scrollHeight + 2, MAX_HEIGHT_PX)}px`;
    problem.textContent = tooLong(area.value);
  };
  const send = () => {
    const text = area.value.trim();
    if (!text || tooLong(text)) return;
    area.value = '';
    family.drafts.delete(thread.id);
    grow();
    toEnd();
    void family.writeReply(group, thread.id, text);
  };
  const written = () => {
    if (group.key) family.drafts.save(thread.id, draftOf, { body: area.value });
    if (area.value) family.typing(thread.id);
    grow();
  };
  const pressed = (/** @type {KeyboardEvent} */ event) => {
    // On a phone's keyboard Enter makes a new line; there is a button.
    if (event.key !== 'Enter' || event.shiftKey || isConfirming(event) || matchMedia('(pointer: coarse)').matches) return;
    event.preventDefault();
    send();
  };
  /** @param {FileList | null | undefined} files */
  const attach = (files) => {
    for (const file of files ?? []) void family.uploads.add(group, thread.id, file);
  };
  const area = h('textarea', {
    rows: 1,
    dir: 'auto',
    'aria-label': 'Your reply',
    placeholder: 'Write a reply…',
    oninput: written,
    onkeydown: pressed,
    onpaste: (/** @type {ClipboardEvent} */ event) => attach(event.clipboardData?.files),
  });
  const picked = () => {
    attach(file.files);
    file.value = '';
  };
  const file = h('input', {
    type: 'file',
    accept: 'image/*,video/*',
    multiple: true,
    class: 'sr',
    tabindex: '-1',
    'aria-hidden': 'true',
    onchange: picked,
  });
  if (group.key) {
    void family.drafts.load(thread.id, draftOf).then(({ body }) => {
      if (area.value || !body) return;
      area.value = body;
      grow();
    });
  }
  return h(
    'form',
    {
      class: 'composer',
      'aria-label': 'Reply',
      onsubmit: (/** @type {Event} */ event) => {
        event.preventDefault();
        send();
        area.focus();
      },
      ondrop: (/** @type {DragEvent} */ event) => attach(event.dataTransfer?.files),
    },
    file,
    h('button', { type: 'button', class: 'quiet round', 'aria-label': 'Add photos or videos', onclick: () => file.click() }, icon('clip')),
    area,
    h('button', { class: 'primary round', 'aria-label': 'Send the reply' }, icon('send')),
    problem,
  );
}
