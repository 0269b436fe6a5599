/**
 * Draw the state machines and the messages' fields into docs/reference/encryption.md, between the marks of each.
 *
 * `node scripts/tables.js` rewrites the page.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { LINK_BODY, LINK_GROUP, LINK_MESSAGE } from '../src/formats/link.js';
import * as schemas from '../src/formats/schemas.js';
import * as link from '../src/link-machine.js';
import { ANNOTATION_BODIES } from '../src/annotation-kinds.js';
import { MEDIA_INFO } from '../src/media.js';
import { RECEIVER_ACTS, RECEIVER_INPUTS, RECEIVER_STATES, SENDER_ACTS, SENDER_INPUTS, SENDER_STATES } from '../src/machine-words.js';
import { RECEIVER } from '../src/receiver.js';
import { SENDER } from '../src/sender.js';

const PAGE = new URL('../../../docs/reference/encryption.md', import.meta.url);

/** @param {string[]} heads @param {string[][]} rows */
const table = (heads, rows) => [heads, heads.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n');

/** @param {Record<string, string>} names */
const list = (names) =>
  Object.entries(names)
    .map(([name, what]) => `- \`${name}\`: ${what}${what.endsWith('.') ? '' : '.'}`)
    .join('\n');

/** @param {readonly any[]} rows @param {Record<string, string>} states @param {Record<string, string>} inputs @param {Record<string, string>} acts */
function machine(rows, states, inputs, acts) {
  const warns = rows.some(({ warning }) => warning);
  const cells = rows.map(({ state, on, does, to, warning }) => [
    `\`${state}\``,
    inputs[on],
    acts[does],
    `\`${to}\``,
    ...(warns ? [warning ? `\`${warning}\`` : ''] : []),
  ]);
  return `${list(states)}\n\n${table(['state', 'on', 'does', 'to', ...(warns ? ['warning'] : [])], cells)}`;
}

/** @param {any} field */
function typeOf({ type, length, max, repeated, schema }) {
  const name = Object.entries({ ...schemas, LINK_GROUP }).find(([, one]) => one === schema)?.[0];
  const plain =
    type === 'message'
      ? `message ${name}`
      : type === 'bytes'
        ? length
          ? `${length} bytes`
          : 'bytes'
        : `number${max ? ` ≤ ${max === Number.MAX_SAFE_INTEGER ? '2^53 − 1' : max}` : ''}`;
  return repeated ? `repeated ${plain}` : plain;
}

/** @param {string} name @param {Record<number, any>} schema */
const fields = (name, schema) =>
  `**${name}**\n\n${table(
    ['field', 'name', 'type', 'required'],
    Object.entries(schema).map(([number, field]) => [number, `\`${field.name}\``, typeOf(field), field.required ? 'yes' : '']),
  )}`;

/** @returns {Record<string, string>} What stands between each pair of marks. */
export function drawn() {
  const messages = Object.entries(schemas).filter(([, one]) => typeof one === 'object' && /** @type {any} */ (one)[1]?.name);
  const bodies = Object.entries(schemas.RECORD_BODIES).map(([kind, schema]) => fields(`Body of ${kind}`, schema));
  const annotations = Object.entries(ANNOTATION_BODIES).map(([kind, schema], at) => fields(`Field ${at + 1}: ${kind}`, schema));
  return {
    sender: machine(SENDER, SENDER_STATES, SENDER_INPUTS, SENDER_ACTS),
    receiver: machine(RECEIVER, RECEIVER_STATES, RECEIVER_INPUTS, RECEIVER_ACTS),
    fields: [...messages.map(([name, schema]) => fields(name, /** @type {any} */ (schema))), fields('MEDIA_INFO', MEDIA_INFO)].join('\n\n'),
    records: bodies.join('\n\n'),
    'new device': machine(link.NEW_DEVICE, link.NEW_STATES, link.NEW_INPUTS, link.NEW_ACTS),
    'older device': machine(link.OLD_DEVICE, link.OLD_STATES, link.OLD_INPUTS, link.OLD_ACTS),
    'link fields': Object.entries({ LINK_MESSAGE, LINK_BODY, LINK_GROUP })
      .map(([name, schema]) => fields(name, schema))
      .join('\n\n'),
    annotations: annotations.join('\n\n'),
  };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  let page = readFileSync(PAGE, 'utf8');
  for (const [name, text] of Object.entries(drawn())) {
    const marks = new RegExp(`(<!-- ${name}: made by scripts/tables.js -->\n)[^]*?(<!-- end of ${name} -->)`);
    if (!marks.test(page)) throw new Error(`docs/reference/encryption.md has no marks for ${name}`);
    page = page.replace(marks, (_, begin, end) => `${begin}\n${text}\n\n${end}`);
  }
  writeFileSync(PAGE, page);
}
