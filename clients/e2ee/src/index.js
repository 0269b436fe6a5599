/** @orbital-relay/e2ee: end-to-end encryption for Orbital, as docs/reference/encryption.md describes it. */
export * from './bytes.js';
export * from './errors.js';
export * from './formats/content.js';
export * from './formats/envelope.js';
export * from './formats/records.js';
export * from './formats/sender-key.js';
export * from './invite.js';
export * from './media.js';
export * from './roster.js';
export * from './safety.js';
