/** The body of content of kind 7: what an annotation says about its target. */
import { copy, fromUtf8, utf8 } from './bytes.js';
import { E2eeError } from './errors.js';
import { decode, encode } from './formats/protobuf.js';
import { LENGTHS } from './formats/schemas.js';

/** @import { Bytes } from './bytes.js' */
/** @import { Item } from './contents.js' */
/** @import { Schema } from './formats/protobuf.js' */

/** Bound on the text of a reaction, in bytes of UTF-8: the longest emoji sequences have about 40. */
export const MAX_REACTION_BYTES = 64;
/** Bounds on the options of a poll. */
export const MIN_OPTIONS = 2;
export const MAX_OPTIONS = 32;

const removed = /** @type {const} */ ({ name: 'removed', type: 'uint', max: 1 });

/** @type {Readonly<Record<string, Schema>>} The body of each kind. */
export const ANNOTATION_BODIES = Object.freeze({
  reaction: { 1: { name: 'text', type: 'bytes', required: true }, 2: removed },
  edit: { 1: { name: 'body', type: 'bytes', required: true }, 2: { name: 'title', type: 'bytes' } },
  pin: { 1: removed },
  seen: { 1: { name: 'seq', type: 'uint', max: Number.MAX_SAFE_INTEGER, required: true } },
  poll: {
    1: { name: 'id', type: 'bytes', length: LENGTHS.id, required: true },
    2: { name: 'question', type: 'bytes', required: true },
    3: { name: 'options', type: 'bytes', repeated: true },
    4: { name: 'multiple', type: 'uint', max: 1 },
  },
  vote: {
    1: { name: 'poll', type: 'bytes', length: LENGTHS.id, required: true },
    2: { name: 'choices', type: 'bytes', required: true },
  },
});

/** @typedef {'reaction' | 'edit' | 'pin' | 'seen' | 'poll' | 'vote'} AnnotationKind */

const KINDS = /** @type {AnnotationKind[]} */ (Object.keys(ANNOTATION_BODIES));

/** @type {Schema} One of the kinds; the numbers are those of `ANNOTATION_BODIES`, in its order. */
export const ANNOTATION = Object.fromEntries(
  KINDS.map((name, at) => [at + 1, { name, type: 'message', schema: /** @type {Schema} */ (ANNOTATION_BODIES[name]) }]),
);

/** @typedef {{kind: 'reaction', text: string, removed?: boolean}} Reaction `removed`: the author takes the same text back. */
/** @typedef {{kind: 'edit', body: string, title?: string}} Edit The new text of the target; `title` of a thread. */
/** @typedef {{kind: 'pin', removed?: boolean}} Pinning */
/** @typedef {{kind: 'seen', seq: number}} SeenMark The author has seen the thread up to this number. */
/** @typedef {{kind: 'poll', id: Bytes, question: string, options: string[], multiple?: boolean}} Poll `id`: 16 random bytes; votes name it. */
/** @typedef {{kind: 'vote', poll: Bytes, choices: number[]}} Vote Places in the poll's options, from 0; none takes the vote back. */
/** @typedef {Reaction | Edit | Pinning | SeenMark | Poll | Vote} Annotation */

/** @param {string} why @returns {never} */
const malformed = (why) => {
  throw new E2eeError('malformed', `malformed annotation: ${why}`);
};

/** @param {Annotation} annotation @returns {string | null} Which bound it does not keep. */
function outOfBounds(annotation) {
  if (annotation.kind === 'reaction') {
    const { length } = utf8(annotation.text);
    if (length < 1 || length > MAX_REACTION_BYTES) return `a reaction of ${length} bytes, not 1 to ${MAX_REACTION_BYTES}`;
  }
  if (annotation.kind === 'poll') {
    const { length } = annotation.options;
    if (length < MIN_OPTIONS || length > MAX_OPTIONS) return `a poll of ${length} options, not ${MIN_OPTIONS} to ${MAX_OPTIONS}`;
  }
  return null;
}

/** @param {boolean | undefined} value @returns {1 | undefined} */
const flag = (value) => (value ? 1 : undefined);

/** @param {Annotation} annotation @returns {Record<string, unknown>} The fields of its body. */
function fieldsOf(annotation) {
  switch (annotation.kind) {
    case 'reaction':
      return { text: utf8(annotation.text), removed: flag(annotation.removed) };
    case 'edit':
      return { body: utf8(annotation.body), title: annotation.title === undefined ? undefined : utf8(annotation.title) };
    case 'pin':
      return { removed: flag(annotation.removed) };
    case 'seen':
      return { seq: annotation.seq };
    case 'poll': {
      const { id, question, options, multiple } = annotation;
      return { id, question: utf8(question), options: options.map(utf8), multiple: flag(multiple) };
    }
    case 'vote': {
      if (annotation.choices.some((one) => !Number.isInteger(one) || one < 0 || one >= MAX_OPTIONS))
        throw new RangeError(`a vote for ${annotation.choices}, not for places from 0 to ${MAX_OPTIONS - 1}`);
      return { poll: annotation.poll, choices: Uint8Array.from(annotation.choices) };
    }
  }
}

/**
 * Write the body of content of kind 7.
 *
 * @param {Annotation} annotation
 * @returns {Bytes}
 * @throws {RangeError} When a value is out of its bounds.
 */
export function writeAnnotation(annotation) {
  const why = outOfBounds(annotation);
  if (why) throw new RangeError(why);
  return encode(ANNOTATION, { [annotation.kind]: fieldsOf(annotation) });
}

/**
 * Parse the body of content of kind 7.
 *
 * @param {Uint8Array} bytes
 * @returns {Annotation}
 * @throws {E2eeError} `malformed`; `unsupported` for a kind that this client does not have.
 */
export function readAnnotation(bytes) {
  const message = decode(ANNOTATION, bytes);
  const [kind, ...more] = KINDS.filter((name) => message[name] !== undefined);
  if (kind === undefined) throw new E2eeError('unsupported', 'an annotation of a kind that is unknown here');
  if (more.length) malformed(`${more.length + 1} kinds at once`);
  const annotation = readBody(kind, message[kind]);
  const why = outOfBounds(annotation);
  if (why) malformed(why);
  return annotation;
}

/** @param {AnnotationKind} kind @param {Record<string, any>} body @returns {Annotation} */
function readBody(kind, body) {
  /** @param {Uint8Array} bytes */
  const text = (bytes) => {
    try {
      return fromUtf8(bytes);
    } catch {
      return malformed(`a ${kind} whose text is not UTF-8`);
    }
  };
  switch (kind) {
    case 'reaction':
      return { kind, text: text(body.text), removed: body.removed === 1 };
    case 'edit':
      return { kind, body: text(body.body), ...(body.title && { title: text(body.title) }) };
    case 'pin':
      return { kind, removed: body.removed === 1 };
    case 'seen':
      return { kind, seq: body.seq };
    case 'poll': {
      const options = body.options.map(text);
      return { kind, id: copy(body.id), question: text(body.question), options, multiple: body.multiple === 1 };
    }
    case 'vote':
      return { kind, poll: copy(body.poll), choices: [...body.choices] };
  }
}

/** @param {Item} item @returns {Annotation | null} Null when the item is no annotation that was read, or of a kind that is unknown here. */
export function annotationOf({ type, parts: [first] }) {
  if (type !== 'new_annotation' || !first) return null;
  try {
    return readAnnotation(first.body);
  } catch (error) {
    if (!(error instanceof E2eeError)) throw error;
    return null;
  }
}
