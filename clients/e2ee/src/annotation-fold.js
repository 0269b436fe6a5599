/** What annotations come to: each target of a group with its edit, reactions, pin, positions and polls. */
import { toHex } from './bytes.js';
import { annotationOf } from './annotation-kinds.js';

/** @import { Annotation, Vote } from './annotation-kinds.js' */
/** @import { Item } from './contents.js' */

/** @typedef {{question: string, options: string[], multiple: boolean, by: string, seq: number, votes: Map<string, number[]>}} ShownPoll `votes`: by user. */
/**
 * What a thread, reply or medium shows besides itself.
 *
 * @typedef {object} AnnotatedTarget
 * @property {{body: string, title?: string, seq: number, at: number} | null} edit The last one by the target's author.
 * @property {Map<string, string[]>} reactions By text: the users, the first one first.
 * @property {{by: string, seq: number} | null} pin
 * @property {Map<string, number>} seen By user: the highest number.
 * @property {Map<string, ShownPoll>} polls By id, hexadecimal.
 */

/** The field that holds the id of what can be annotated. */
const IDS = Object.freeze(
  /** @type {Record<string, string>} */ ({ new_thread: 'thread_id', new_reply: 'reply_id', media_uploaded: 'media_id' }),
);

/**
 * Fold annotations in the order of the log.
 *
 * An edit counts if its author wrote the target; all else counts of every member. Targets are known by what was read: an edit of something that is
 * not among the items counts for nothing.
 *
 * @param {Iterable<Item>} items A group's, as `items()` of the device returns them.
 * @returns {Map<string, AnnotatedTarget>} By target.
 */
export function foldAnnotations(items) {
  /** @type {Map<string, string>} */
  const authors = new Map();
  /** @type {Map<string, AnnotatedTarget>} */
  const targets = new Map();
  for (const item of items) {
    if (item.status !== 'read') continue;
    const field = IDS[item.type];
    if (field) {
      const id = String(item.data[field]);
      if (!authors.has(id)) authors.set(id, item.author);
      continue;
    }
    const annotation = annotationOf(item);
    if (!annotation) continue;
    const id = String(item.data.target_id);
    const target = targets.get(id) ?? { edit: null, reactions: new Map(), pin: null, seen: new Map(), polls: new Map() };
    targets.set(id, target);
    apply(target, item, annotation, authors.get(id));
  }
  return targets;
}

/** @param {AnnotatedTarget} target @param {Item} item @param {Annotation} annotation @param {string | undefined} author Of the target. */
function apply(target, { author: by, seq, parts }, annotation, author) {
  switch (annotation.kind) {
    case 'reaction': {
      const { text, removed } = annotation;
      const before = target.reactions.get(text) ?? [];
      const users = removed ? before.filter((user) => user !== by) : [...new Set([...before, by])];
      if (users.length) target.reactions.set(text, users);
      else target.reactions.delete(text);
      break;
    }
    case 'edit': {
      if (by !== author) break;
      const { body, title } = annotation;
      target.edit = { body, ...(title !== undefined && { title }), seq, at: /** @type {Item['parts'][number]} */ (parts[0]).at };
      break;
    }
    case 'pin':
      target.pin = annotation.removed ? null : { by, seq };
      break;
    case 'seen':
      target.seen.set(by, Math.max(annotation.seq, target.seen.get(by) ?? 0));
      break;
    case 'poll': {
      const { question, options, multiple = false } = annotation;
      const id = toHex(annotation.id);
      // The first one: nobody replaces a poll that has votes.
      if (!target.polls.has(id)) target.polls.set(id, { question, options, multiple, by, seq, votes: new Map() });
      break;
    }
    case 'vote':
      vote(target.polls.get(toHex(annotation.poll)), annotation, by);
  }
}

/** @param {ShownPoll | undefined} poll @param {Vote} vote @param {string} by */
function vote(poll, { choices }, by) {
  if (!poll) return;
  const chosen = [...new Set(choices)].sort((a, b) => a - b);
  if (chosen.some((one) => one >= poll.options.length) || (chosen.length > 1 && !poll.multiple)) return;
  if (chosen.length) poll.votes.set(by, chosen);
  else poll.votes.delete(by);
}
