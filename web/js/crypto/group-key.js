/** A group's key: generation, and its text form for links and for reading aloud. */
import { fromBase64, toBase64Url } from './bytes.js';
import { AES } from './envelope.js';

/** @import {Bytes} from './bytes.js' */

const RAW_KEY_BYTES = 32;
/** 32 bytes in base64url. */
const KEY_LETTERS = 43;
/** Two letters hold the 12 bits of the checksum. */
const CHECK_LETTERS = 2;
const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
/** CRC-12: it detects every wrong letter and every swap of neighbours. */
const POLYNOMIAL = 0x80f;

/**
 * The key that seals the name of a group of version 2 (docs/reference/encryption.md, Invite links).
 *
 * @param {Bytes} raw What its invitations carry.
 * @returns {Promise<CryptoKey>} Not exportable.
 */
export async function importNameKey(raw) {
  const secret = await crypto.subtle.importKey('raw', raw, 'HKDF', false, ['deriveKey']);
  const how = { name: 'HKDF', hash: 'SHA-256', salt: new Uint8Array(32), info: new TextEncoder().encode('orbital/2 name\0') };
  return crypto.subtle.deriveKey(how, secret, AES, false, ['encrypt', 'decrypt']);
}

/** @returns {Bytes} A new group's key. */
export const newGroupKey = () => crypto.getRandomValues(new Uint8Array(RAW_KEY_BYTES));

/** @param {Bytes} raw @returns {Promise<CryptoKey>} For encryption and decryption; not exportable. */
export const importGroupKey = (raw) => crypto.subtle.importKey('raw', raw, AES, false, ['encrypt', 'decrypt']);

/** @param {string} letters Of base64url. @returns {string} The two checksum letters. */
function checkOf(letters) {
  let crc = 0xfff;
  for (const letter of letters) {
    crc ^= ALPHABET.indexOf(letter) << 6;
    for (let bit = 0; bit < 6; bit++) crc = crc & 0x800 ? ((crc << 1) & 0xfff) ^ POLYNOMIAL : (crc << 1) & 0xfff;
  }
  return `${ALPHABET[crc >> 6]}${ALPHABET[crc & 63]}`;
}

/** @param {Bytes} raw @returns {string} The key as in a link: 43 letters and two checksum letters. */
export function keyToText(raw) {
  const letters = toBase64Url(raw);
  return letters + checkOf(letters);
}

/** @param {string} text As `keyToText` made it. @returns {string} In groups of five, to be read aloud. */
export const keyToSpeak = (text) => (text.match(/.{1,5}/g) ?? []).join(' ');

/**
 * Parse a group's key from a link or from typed text.
 *
 * @param {string} text Spaces and line breaks are ignored.
 * @returns {Bytes | null} Null when the key is incomplete, or a letter in it is wrong.
 */
export function keyFromText(text) {
  const bare = text.replace(/\s/g, '');
  const letters = bare.slice(0, KEY_LETTERS);
  if (bare.length !== KEY_LETTERS + CHECK_LETTERS || !/^[\w-]+$/.test(bare) || checkOf(letters) !== bare.slice(KEY_LETTERS)) return null;
  return fromBase64(letters);
}
