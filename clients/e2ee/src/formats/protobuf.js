/**
 * A strict codec for the part of Protocol Buffers that the formats use: varints, byte strings, nested messages.
 *
 * A message is a schema of fields. Unknown fields are skipped; a single field that comes twice keeps the last value.
 * Refused as malformed: a truncated field, a varint that is not minimal or exceeds its bound, field number 0, groups, a known field of another
 * wire type, a byte string of another length than the schema asks for, and more than MAX_REPEATED values of one field.
 */
import { concat, copy } from '../bytes.js';
import { E2eeError } from '../errors.js';

/** @import { Bytes } from '../bytes.js' */

/** Bound on one repeated field: more than the devices that fit into one envelope of 256 KiB. */
export const MAX_REPEATED = 1024;

const VARINT = 0;
const FIXED64 = 1;
const LENGTH = 2;
const FIXED32 = 5;

/**
 * @typedef {object} Field
 * @property {string} name
 * @property {'uint' | 'bytes' | 'message'} type
 * @property {number} [length] Bytes: the exact length.
 * @property {number} [max] Uint: the largest value; 2^32 − 1 if left out.
 * @property {Schema} [schema] Message: its fields.
 * @property {boolean} [repeated]
 * @property {boolean} [required]
 */
/** @typedef {Readonly<Record<number, Field>>} Schema Field numbers and fields. */

const U32 = 0xffff_ffff;

/** @param {string} why @returns {never} */
const malformed = (why) => {
  throw new E2eeError('malformed', `malformed message: ${why}`);
};

/** @param {number} value @returns {number[]} */
function varint(value) {
  const bytes = [];
  while (value > 0x7f) {
    bytes.push((value % 0x80) | 0x80);
    value = Math.floor(value / 0x80);
  }
  bytes.push(value);
  return bytes;
}

/**
 * Encode a message. Fields are written in the order of their numbers; an undefined one is left out.
 *
 * @param {Schema} schema
 * @param {Record<string, any>} message
 * @returns {Bytes}
 * @throws {RangeError} If a value does not fit its field: an error of the caller.
 */
export function encode(schema, message) {
  /** @type {Uint8Array[]} */
  const parts = [];
  for (const [key, field] of Object.entries(schema)) {
    const value = message[field.name];
    if (value === undefined) {
      if (field.required) throw new RangeError(`field ${field.name} is required`);
      continue;
    }
    const values = field.repeated ? value : [value];
    for (const one of values) {
      if (field.type === 'uint') {
        if (!Number.isSafeInteger(one) || one < 0 || one > (field.max ?? U32))
          throw new RangeError(`field ${field.name} cannot hold ${one}`);
        parts.push(Uint8Array.from([...varint(Number(key) * 8 + VARINT), ...varint(one)]));
        continue;
      }
      const bytes = field.type === 'message' ? encode(/** @type {Schema} */ (field.schema), one) : one;
      if (field.length !== undefined && bytes.length !== field.length)
        throw new RangeError(`field ${field.name} takes ${field.length} bytes, not ${bytes.length}`);
      parts.push(Uint8Array.from([...varint(Number(key) * 8 + LENGTH), ...varint(bytes.length)]), bytes);
    }
  }
  return concat(...parts);
}

/**
 * Decode a message.
 *
 * @param {Schema} schema
 * @param {Uint8Array} bytes
 * @returns {Record<string, any>} Repeated fields are always present.
 * @throws {E2eeError} `malformed`.
 */
export function decode(schema, bytes) {
  /** @type {Record<string, any>} */
  const message = {};
  for (const field of Object.values(schema)) if (field.repeated) message[field.name] = [];
  let at = 0;

  const readVarint = () => {
    let value = 0;
    let scale = 1;
    for (let count = 0; count < 8; count++) {
      const byte = bytes[at++];
      if (byte === undefined) return malformed('a number is truncated');
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) {
        if (byte === 0 && count > 0) malformed('a number is not in its shortest form');
        if (value > Number.MAX_SAFE_INTEGER) malformed('a number is too large');
        return value;
      }
      scale *= 0x80;
    }
    return malformed('a number is too long');
  };
  /** @param {number} length */
  const take = (length) => {
    if (length > bytes.length - at) malformed('a field is truncated');
    at += length;
    return bytes.subarray(at - length, at);
  };

  while (at < bytes.length) {
    const tag = readVarint();
    const wire = tag % 8;
    const number = Math.floor(tag / 8);
    if (number === 0 || number > 0x1fff_ffff) malformed('a field number is out of range');
    const field = schema[number];
    if (!field) {
      if (wire === VARINT) readVarint();
      else if (wire === FIXED64) take(8);
      else if (wire === LENGTH) take(readVarint());
      else if (wire === FIXED32) take(4);
      else malformed(`wire type ${wire}`);
      continue;
    }
    if (wire !== (field.type === 'uint' ? VARINT : LENGTH)) malformed(`field ${field.name} has wire type ${wire}`);
    let value;
    if (field.type === 'uint') {
      value = readVarint();
      if (value > (field.max ?? U32)) malformed(`field ${field.name} is out of range`);
    } else {
      const raw = take(readVarint());
      if (field.length !== undefined && raw.length !== field.length)
        malformed(`field ${field.name} has ${raw.length} bytes, not ${field.length}`);
      value = field.type === 'message' ? decode(/** @type {Schema} */ (field.schema), raw) : copy(raw);
    }
    if (!field.repeated) message[field.name] = value;
    else if (message[field.name].push(value) > MAX_REPEATED) malformed(`field ${field.name} comes more than ${MAX_REPEATED} times`);
  }
  for (const field of Object.values(schema))
    if (field.required && message[field.name] === undefined) malformed(`field ${field.name} is missing`);
  return message;
}
