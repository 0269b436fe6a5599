/**
 * Audit files: a group's log as one device received it, signed by the device. `orbital verify` reads them.
 *
 * A file is lines of JSON. The first says whose it is, then come events, records and warnings, and the last is a signature over every byte before it.
 * It holds what the server sent, and no key.
 */
import { concat, toBase64, toHex, utf8, uuidBytes } from './bytes.js';
import { E2eeError } from './errors.js';
import { readRecord } from './formats/records.js';
import { loadFacts, loadGroup, loadRecords, loadRoster } from './state.js';
import { ordered } from './unit.js';

/** @import { Bytes } from './bytes.js' */
/** @import { LoggedRecord, Roster } from './roster.js' */
/** @import { Context, KeptFrame, Warning } from './state.js' */
/** @import { Unit } from './unit.js' */

/** Version of the format. */
const VERSION = 1;

/** Warnings by which a knock counts for nothing: this device has not verified it. */
const NOT_VOUCHED = new Set(['not_proven', 'waiting_secret', 'unreadable_record']);

/**
 * Write the audit file of a group.
 *
 * @param {Unit} unit
 * @param {Context} cx
 * @param {string} group
 * @returns {Promise<Bytes>}
 * @throws {E2eeError} `not_found` when the group is unknown here, or no frames of it were kept.
 */
export async function writeAudit(unit, cx, group) {
  const [state, records, roster] = [await loadGroup(unit, group), await loadRecords(unit, group), await loadRoster(unit, group)];
  const frames = await keptRun(unit, group, state.position.seq);
  const [first] = frames;
  if (!first) throw new E2eeError('not_found', `the store has kept no frames of ${group}: open it with keepFrames: true`);
  const after = first.seq - 1;
  const before = await unit.get('heads', `${group}/${ordered(after)}`);
  const head = {
    line: 'audit',
    version: VERSION,
    group,
    founder: toHex(state.founder),
    ...cx.me,
    at: cx.now(),
    after,
    hash: before?.hash ?? '',
    vouched: vouched(group, records, roster),
    accepted: [...(await loadFacts(unit, group)).accepted].sort(),
  };
  /** @type {Warning[]} */
  const warnings = (await unit.list('warnings', `${group}/`)).map(([, warning]) => warning);
  const lines = [
    head,
    ...frames.map(({ seq, hash, text, heads }) => ({ line: 'event', seq, hash, frame: text, heads })),
    ...records.map(({ seq, author, bytes }) => ({ line: 'record', seq, author, record: toBase64(bytes) })),
    ...warnings.map(({ seq, code, user, device }) => ({ line: 'warning', seq, code, user, device })),
  ];
  const body = utf8(lines.map((line) => `${JSON.stringify(line)}\n`).join(''));
  const signer = await cx.ratchet.identity(unit);
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', body));
  const signature = await signer.sign(concat(utf8('orbital/2 audit\0'), uuidBytes(group), digest));
  const end = { line: 'end', identity: toBase64(signer.publicKey), signature: toBase64(signature) };
  return concat(body, utf8(`${JSON.stringify(end)}\n`));
}

/**
 * @param {Unit} unit
 * @param {string} group
 * @param {number} last
 * @returns {Promise<(KeptFrame & {seq: number})[]>} The frames without a gap that end with the last event processed; an earlier gap is this device's own.
 */
async function keptRun(unit, group, last) {
  const found = (await unit.list('frames', `${group}/`)).map(([key, row]) => ({ ...row, seq: Number(key.slice(group.length + 1)) }));
  let start = found.length;
  while (start > 0 && found[start - 1]?.seq === last - (found.length - start)) start--;
  return found.slice(start);
}

/** @param {string} group @param {LoggedRecord[]} records @param {Roster} roster @returns {number[]} Numbers of the knocks whose MAC this device verified. */
function vouched(group, records, roster) {
  const refused = new Set(roster.warnings.filter(({ code }) => NOT_VOUCHED.has(code)).map(({ seq }) => seq));
  return records.filter(({ seq, bytes }) => !refused.has(seq) && isKnock(group, bytes)).map(({ seq }) => seq);
}

/** @param {string} group @param {Bytes} bytes @returns {boolean} */
function isKnock(group, bytes) {
  try {
    return readRecord(group, bytes).body.kind === 'knock';
  } catch {
    return false;
  }
}
