/** The form for a new thread. */
import { h, put } from './dom.js';
import { TITLE_LETTERS, tooLong } from './input.js';
import { markdown } from './markdown/render.js';
import { address } from './route.js';
import { field, form } from './window.js';

/** @import {Group} from '../model/types.js' */
/** @import {ViewContext} from './home.js' */

/** @param {ViewContext} context @param {Group} group */
export function makeNewThread(context, group) {
  const { family } = context;
  const name = `new:${group.id}`;
  const draftOf = { groupId: group.id, key: /** @type {CryptoKey} */ (group.key) };
  const preview = h('div', { class: 'words preview', hidden: true });
  const problem = h('p', { class: 'problem', role: 'status' });
  const body = h('textarea', { id: 'new-body', name: 'body', rows: 8, dir: 'auto' });
  const titled = field('title', 'Title', { dir: 'auto' });
  const title = /** @type {HTMLInputElement} */ (titled.querySelector('input'));

  const showPreview = () => {
    problem.textContent = tooLong(title.value, TITLE_LETTERS) || tooLong(body.value);
    preview.hidden = !/[*_`#>[\]~-]|\d\./.test(body.value);
    if (!preview.hidden) put(preview, h('p', { class: 'hint' }, 'Preview:'), markdown(body.value));
  };
  const written = () => {
    family.drafts.save(name, draftOf, { title: title.value, body: body.value });
    showPreview();
  };
  for (const input of [title, body]) input.addEventListener('input', written);
  void family.drafts.load(name, draftOf).then((draft) => {
    if (title.value || body.value) return;
    title.value = draft.title;
    body.value = draft.body;
    showPreview();
  });

  const act = async () => {
    const text = title.value.trim();
    if (!text) throw new Error('The thread needs a title.');
    const long = tooLong(text, TITLE_LETTERS) || tooLong(body.value);
    if (long) throw new Error(long);
    context.openWhenSent(await family.writeThread(group, text, body.value.trim() || text));
    family.drafts.delete(name);
    location.hash = address(group.id);
    if (family.state.status !== 'open') context.toast('Saved on this device. It is sent when the connection is back.');
  };
  const about = h(
    'div',
    { class: 'field' },
    h('label', { for: 'new-body' }, 'What is it about?'),
    body,
    h('p', { class: 'hint' }, '**bold**, *italic*, lists with - and links are formatted.'),
  );
  const heading = h('h2', { tabindex: '-1' }, 'New thread');
  return h(
    'div',
    { class: 'scroll' },
    h('div', { class: 'opening' }, heading, form({ label: 'Create the thread', act }, titled, about, problem, preview)),
  );
}
