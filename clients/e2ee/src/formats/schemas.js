/** The fields of every message of the wire format; docs/reference/encryption.md draws this table. */

/** @import { Schema } from './protobuf.js' */

/** Bytes of ids, keys, hashes and signatures. */
export const LENGTHS = Object.freeze({ id: 16, publicKey: 33, chainKey: 32, hash: 16, signature: 64, secret: 16, mac: 32 });
/** A device's number. */
export const MAX_DEVICE = 127;

const { id, publicKey, chainKey, hash, signature, secret } = LENGTHS;
const SAFE = Number.MAX_SAFE_INTEGER;

/** @type {Schema} Behind the version byte of a SenderKeyMessage, before its signature. */
export const SENDER_KEY_MESSAGE = {
  1: { name: 'distribution', type: 'bytes', length: id, required: true },
  2: { name: 'chain', type: 'uint', required: true },
  3: { name: 'iteration', type: 'uint', required: true },
  4: { name: 'ciphertext', type: 'bytes', required: true },
};

/** @type {Schema} Behind the version byte of a sender key distribution message (SKDM). */
export const DISTRIBUTION_MESSAGE = {
  1: { name: 'distribution', type: 'bytes', length: id, required: true },
  2: { name: 'chain', type: 'uint', required: true },
  3: { name: 'iteration', type: 'uint', required: true },
  4: { name: 'chainKey', type: 'bytes', length: chainKey, required: true },
  5: { name: 'signingKey', type: 'bytes', length: publicKey, required: true },
};

/** @type {Schema} */
export const DELIVERY = {
  1: { name: 'user', type: 'bytes', length: id, required: true },
  2: { name: 'device', type: 'uint', max: MAX_DEVICE, required: true },
  3: { name: 'suite', type: 'uint', required: true },
  4: { name: 'sealed', type: 'bytes', required: true },
};

/** @type {Schema} */
export const KEYS = {
  1: { name: 'device', type: 'uint', max: MAX_DEVICE, required: true },
  2: { name: 'epoch', type: 'uint', max: SAFE, required: true },
  3: { name: 'deliveries', type: 'message', schema: DELIVERY, repeated: true },
};

/** @type {Schema} */
export const REQUEST = {
  1: { name: 'device', type: 'uint', max: MAX_DEVICE, required: true },
  2: { name: 'distribution', type: 'bytes', length: id, required: true },
};

/** @type {Schema} Behind the version byte 0x02. */
export const ENVELOPE = {
  1: { name: 'content', type: 'bytes' },
  2: { name: 'keys', type: 'message', schema: KEYS },
  3: { name: 'request', type: 'message', schema: REQUEST },
};

/** @type {Schema} */
export const SIGNED = {
  1: { name: 'pairwise', type: 'bytes', required: true },
  2: { name: 'identity', type: 'bytes', length: publicKey, required: true },
  3: { name: 'signature', type: 'bytes', length: signature, required: true },
};

/** @type {Schema} */
export const HISTORY = {
  1: { name: 'user', type: 'bytes', length: id, required: true },
  2: { name: 'device', type: 'uint', max: MAX_DEVICE, required: true },
  3: { name: 'skdm', type: 'bytes', required: true },
  4: { name: 'proof', type: 'bytes' },
  5: { name: 'proofKeyId', type: 'uint' },
};

/** @type {Schema} */
export const PAIRWISE = {
  1: { name: 'group', type: 'bytes', length: id, required: true },
  2: { name: 'skdm', type: 'bytes' },
  3: { name: 'epoch', type: 'uint', max: SAFE, required: true },
  4: { name: 'headSeq', type: 'uint', max: SAFE },
  5: { name: 'headHash', type: 'bytes', length: hash },
  6: { name: 'history', type: 'message', schema: HISTORY, repeated: true },
  7: { name: 'secret', type: 'bytes', length: secret },
  8: { name: 'shareable', type: 'uint', max: 1 },
  9: { name: 'secretNumber', type: 'uint' },
};

/** @type {Schema} Before the padding. */
export const CONTENT = {
  1: { name: 'kind', type: 'uint', required: true },
  2: { name: 'group', type: 'bytes', length: id, required: true },
  3: { name: 'context', type: 'bytes', length: id, required: true },
  4: { name: 'at', type: 'uint', max: SAFE, required: true },
  5: { name: 'body', type: 'bytes', required: true },
  6: { name: 'headSeq', type: 'uint', max: SAFE },
  7: { name: 'headHash', type: 'bytes', length: hash },
  8: { name: 'nonce', type: 'bytes', length: id, required: true },
};

/** @type {Schema} The field's number is the record's kind; exactly one of 1 to 6 is there. */
export const RECORD = {
  1: { name: 'found', type: 'bytes' },
  2: { name: 'knock', type: 'bytes' },
  3: { name: 'link', type: 'bytes' },
  4: { name: 'revoke', type: 'bytes' },
  5: { name: 'secret', type: 'bytes' },
  6: { name: 'policy', type: 'bytes' },
  15: { name: 'proof', type: 'bytes', required: true },
};

/** @satisfies {Record<number, any>} The four fields that name a device. */
const DEVICE = /** @type {const} */ ({
  1: { name: 'user', type: 'bytes', length: id, required: true },
  2: { name: 'device', type: 'uint', max: MAX_DEVICE, required: true },
  3: { name: 'identity', type: 'bytes', length: publicKey, required: true },
  4: { name: 'suites', type: 'uint', required: true },
});

/** @type {Record<import('./records.js').RecordKind, Schema>} The bodies of records. */
export const RECORD_BODIES = {
  found: { ...DEVICE, 5: { name: 'history', type: 'uint', max: 2 } },
  knock: { ...DEVICE, 5: { name: 'secretNumber', type: 'uint' } },
  link: { ...DEVICE, 5: { name: 'byDevice', type: 'uint', max: MAX_DEVICE, required: true } },
  revoke: {
    1: { name: 'user', type: 'bytes', length: id, required: true },
    2: { name: 'device', type: 'uint', max: MAX_DEVICE },
    3: { name: 'byUser', type: 'bytes', length: id, required: true },
    4: { name: 'byDevice', type: 'uint', max: MAX_DEVICE, required: true },
  },
  secret: {
    1: { name: 'number', type: 'uint', required: true },
    2: { name: 'byUser', type: 'bytes', length: id, required: true },
    3: { name: 'byDevice', type: 'uint', max: MAX_DEVICE, required: true },
    4: { name: 'earlier', type: 'bytes', length: 32, required: true },
  },
  policy: {
    1: { name: 'history', type: 'uint', max: 2 },
    2: { name: 'rotationDays', type: 'uint', max: 30 },
    3: { name: 'byDevice', type: 'uint', max: MAX_DEVICE, required: true },
  },
};
