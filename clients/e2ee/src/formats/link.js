/** The code that a new device shows, and the message that it gets: layouts, and the keys that seal the message. */
import { concat, copy, equal, fromBase64, random, toBase64Url, utf8, uuidBytes, uuidText } from '../bytes.js';
import { checkPublicKey, verify } from '../crypto/curve.js';
import { gcmOpen, gcmSeal, hkdf, sha256 } from '../crypto/mac.js';
import { agree, importScalar } from '../crypto/xwing.js';
import { E2eeError } from '../errors.js';
import { decode, encode } from './protobuf.js';
import { LENGTHS, MAX_DEVICE } from './schemas.js';

/** @import { Bytes } from '../bytes.js' */
/** @import { Schema } from './protobuf.js' */
/** @import { Signer } from './records.js' */

const VERSION = 1;
const POINT_BYTES = 32;
const CHECK_BYTES = 4;
/** version, mailbox, user, device, suites, identity, X25519 key, secret, checksum. */
export const CODE_BYTES = 1 + 16 + 16 + 1 + 1 + 33 + POINT_BYTES + 16 + CHECK_BYTES;
const CODE_TEXT = /^[A-Za-z0-9_-]{160}$/;
const TAG_BYTES = 16;
/** Groups that one message carries: with their fields they stay below the mailbox's 64 KiB. */
export const MAX_LINK_GROUPS = 500;
const BASE_POINT = (() => {
  const base = new Uint8Array(POINT_BYTES);
  base[0] = 9;
  return base;
})();

/** @type {Schema} */
export const LINK_GROUP = {
  1: { name: 'group', type: 'bytes', length: LENGTHS.id, required: true },
  2: { name: 'founder', type: 'bytes', length: LENGTHS.hash, required: true },
  3: { name: 'secret', type: 'bytes', length: LENGTHS.secret, required: true },
  4: { name: 'secretNumber', type: 'uint' },
};
/** @type {Schema} */
export const LINK_BODY = {
  1: { name: 'user', type: 'bytes', length: LENGTHS.id, required: true },
  2: { name: 'device', type: 'uint', max: MAX_DEVICE, required: true },
  3: { name: 'identity', type: 'bytes', length: LENGTHS.publicKey, required: true },
  4: { name: 'groups', type: 'message', schema: LINK_GROUP, repeated: true },
  5: { name: 'verified', type: 'bytes', length: LENGTHS.id, repeated: true },
};
/** @type {Schema} */
export const LINK_MESSAGE = {
  1: { name: 'body', type: 'bytes', required: true },
  2: { name: 'signature', type: 'bytes', length: LENGTHS.signature, required: true },
};

/**
 * @typedef {object} LinkCode What a new device shows.
 * @property {Bytes} mailbox 16 bytes.
 * @property {string} user
 * @property {number} device
 * @property {number} suites
 * @property {Bytes} identity 33 bytes.
 * @property {Bytes} point An X25519 public key, for this code alone.
 * @property {Bytes} secret 16 bytes.
 */
/** @typedef {{group: string, founder: Bytes, secret: Bytes, secretNumber: number}} LinkGroup */
/** @typedef {{user: string, device: number, identity: Bytes, groups: LinkGroup[], verified: string[]}} LinkBody `verified`: users whose safety number was compared. */

/** @param {LinkCode} code @returns {Promise<Bytes>} CODE_BYTES bytes. */
export async function writeLinkCode({ mailbox, user, device, suites, identity, point, secret }) {
  const bare = concat(Uint8Array.of(VERSION), mailbox, uuidBytes(user), Uint8Array.of(device, suites), identity, point, secret);
  return concat(bare, (await sha256(bare)).subarray(0, CHECK_BYTES));
}

/** @param {Uint8Array} bytes @returns {string} 160 letters, for a QR code or a line of text. */
export const linkCodeText = (bytes) => toBase64Url(bytes);

/**
 * Read a code.
 *
 * @param {string} text White space is skipped.
 * @returns {Promise<LinkCode & {bytes: Bytes}>}
 * @throws {E2eeError} `malformed` for a letter that is wrong or missing; `unsupported` for another version; `bad_key`.
 */
export async function readLinkCode(text) {
  const bare = text.replace(/\s/g, '');
  if (!CODE_TEXT.test(bare))
    throw new E2eeError('malformed', `a code has 160 letters, and this one has ${bare.length}: copy the whole code, or scan it again`);
  const bytes = fromBase64(bare);
  const end = bytes.length - CHECK_BYTES;
  if (!equal((await sha256(bytes.subarray(0, end))).subarray(0, CHECK_BYTES), bytes.subarray(end)))
    throw new E2eeError('malformed', 'a letter of the code is wrong: copy it, or scan it again');
  if (bytes[0] !== VERSION) throw new E2eeError('unsupported', `a code of version ${bytes[0]}: this program reads version ${VERSION}`);
  let at = 1;
  /** @param {number} length */
  const take = (length) => copy(bytes.subarray(at, (at += length)));
  const [mailbox, user, named, identity] = [take(16), take(16), take(2), take(LENGTHS.publicKey)];
  const [device, suites] = /** @type {[number, number]} */ ([named[0], named[1]]);
  if (device < 1 || device > MAX_DEVICE) throw new E2eeError('malformed', `a code of device ${device}: devices have 1 to ${MAX_DEVICE}`);
  checkPublicKey(identity);
  return { mailbox, user: uuidText(user), device, suites, identity, point: take(POINT_BYTES), secret: take(16), bytes };
}

/** @param {Bytes} mailbox @returns {string} Its name at the server. */
export const mailboxName = (mailbox) => toBase64Url(mailbox);

/**
 * Make the X25519 key of a code from its scalar.
 *
 * @param {Bytes} scalar 32 bytes.
 * @returns {Promise<Bytes>} The public key, 32 bytes.
 */
export const linkPoint = async (scalar) => agree(await importScalar(scalar, false), BASE_POINT);

/**
 * Derive the key and the nonce of a code's one message.
 *
 * @param {Uint8Array} code CODE_BYTES bytes.
 * @param {Bytes} shared Of X25519.
 * @param {Uint8Array} secret Of the code.
 * @param {Uint8Array} ephemeral The sender's X25519 public key.
 */
async function linkKeys(code, shared, secret, ephemeral) {
  const made = await hkdf(concat(shared, secret), await sha256(code, ephemeral), 'orbital/2 link\0', 44);
  return { key: made.slice(0, 32), nonce: made.slice(32) };
}

/** @param {Uint8Array} code @param {Uint8Array} body @returns {Promise<Bytes>} What the older device signs. */
const signedPart = async (code, body) => concat(utf8('orbital/2 link\0'), await sha256(code), body);

/**
 * Seal the message for a code.
 *
 * @param {LinkCode & {bytes: Uint8Array}} code
 * @param {LinkBody} content
 * @param {Signer} signer The older device's identity.
 * @param {Bytes} [scalar] 32 bytes, for test vectors only.
 * @returns {Promise<Bytes>}
 */
export async function sealLink(code, content, signer, scalar = random(32)) {
  const body = encode(LINK_BODY, {
    ...content,
    user: uuidBytes(content.user),
    groups: content.groups.map(({ group, secretNumber, ...one }) => ({
      ...one,
      group: uuidBytes(group),
      ...(secretNumber > 0 && { secretNumber }),
    })),
    verified: content.verified.map(uuidBytes),
  });
  const plain = encode(LINK_MESSAGE, { body, signature: await signer.sign(await signedPart(code.bytes, body)) });
  const ephemeral = await linkPoint(scalar);
  const shared = await agree(await importScalar(scalar, false), code.point);
  const { key, nonce } = await linkKeys(code.bytes, shared, code.secret, ephemeral);
  return concat(Uint8Array.of(VERSION), ephemeral, await gcmSeal(key, nonce, plain));
}

/**
 * Open the message of a code.
 *
 * @param {LinkCode & {bytes: Uint8Array}} code
 * @param {Bytes} scalar The private half of its X25519 key.
 * @param {Uint8Array} sealed
 * @returns {Promise<LinkBody>}
 * @throws {E2eeError} `cannot_open` for a message of another code, or a changed one; `malformed`, `unsupported`, `bad_signature`, `bad_key`.
 */
export async function openLink(code, scalar, sealed) {
  if (sealed[0] !== VERSION) throw new E2eeError('unsupported', `a message of version ${sealed[0]} for a code of version ${VERSION}`);
  if (sealed.length < 1 + POINT_BYTES + TAG_BYTES) throw new E2eeError('malformed', `a message of ${sealed.length} bytes`);
  const ephemeral = copy(sealed.subarray(1, 1 + POINT_BYTES));
  const { key, nonce } = await linkKeys(code.bytes, await agree(await importScalar(scalar, false), ephemeral), code.secret, ephemeral);
  let plain;
  try {
    plain = await gcmOpen(key, nonce, copy(sealed.subarray(1 + POINT_BYTES)));
  } catch {
    throw new E2eeError('cannot_open', 'the message was not made for this code, or was changed in transit');
  }
  const { body, signature } = decode(LINK_MESSAGE, plain);
  const fields = decode(LINK_BODY, body);
  checkPublicKey(fields.identity);
  if (!(await verify(fields.identity, await signedPart(code.bytes, body), signature)))
    throw new E2eeError('bad_signature', 'the message is not signed by the device that it names');
  return {
    user: uuidText(fields.user),
    device: fields.device,
    identity: fields.identity,
    groups: fields.groups.map((/** @type {any} */ { group, founder, secret, secretNumber = 0 }) => ({
      ...{ group: uuidText(group), founder, secret, secretNumber },
    })),
    verified: fields.verified.map(uuidText),
  };
}

/** @param {Uint8Array} code @param {Uint8Array} sealed @returns {Promise<string>} The six digits that both devices show. */
export async function linkNumber(code, sealed) {
  const hash = await sha256(utf8('orbital/2 link number\0'), code, await sha256(sealed));
  return String(new DataView(hash.buffer).getBigUint64(0) % 1_000_000n).padStart(6, '0');
}
