/** The types of the model. */

/** @import {OrbitalClient} from '/sdk/client.js' */
/** @import {Storage} from './shelf.js' */
/** @import {Table} from './vault.js' */

/** @typedef {{user_id: string, username: string, token: string}} Session */
/** @typedef {{user_id: string, username: string, joined_at: string, role: 'founder' | 'admin' | 'member'}} Member */
/** @typedef {'no' | 'loading' | 'yes' | 'failed'} Loaded */

/**
 * The encrypted metadata of a photo. Another member's program wrote it, so it is validated before use.
 *
 * @typedef {{name: string, type: string, width?: number, height?: number}} MediaInfo
 */

/**
 * One item of a thread. The author comes from the server, never from the ciphertext.
 *
 * @typedef {object} Item
 * @property {'reply' | 'media'} kind
 * @property {string} id
 * @property {number} seq Its event's number: items stand in this order. Several may have one time.
 * @property {string} author
 * @property {boolean} mine
 * @property {number} atMs
 * @property {string | null} text Null when it cannot be opened.
 * @property {MediaInfo | null} [info] Null when it cannot be opened, or is malformed.
 * @property {number} [bytes]
 * @property {boolean} [gone] The server has deleted it.
 * @property {boolean} [waits] Its key has not arrived.
 */

/**
 * What was posted last in a thread.
 *
 * @typedef {object} Activity
 * @property {number} seq The event's number.
 * @property {number} atMs
 * @property {string} author
 * @property {boolean} mine
 * @property {'thread' | 'reply' | 'media'} kind
 * @property {string | null} text Of a reply; null when it cannot be opened.
 */

/**
 * @typedef {object} Thread
 * @property {string} id
 * @property {string} author
 * @property {boolean} mine
 * @property {number} atMs
 * @property {string | null} title Null when it cannot be opened.
 * @property {string | null} body
 * @property {boolean} waits Its key has not arrived.
 * @property {Activity} last What was posted last.
 * @property {number} replies
 * @property {number} photos
 * @property {Map<string, Item>} items
 * @property {Loaded} loaded
 */

/** @typedef {{kind: 'joined' | 'left' | 'removed', username: string, atMs: number, seq: number}} Notice Who came and who went. */

/**
 * @typedef {object} Group
 * @property {string} id
 * @property {string | null} name Null when no key on this device opens it.
 * @property {1 | 2} version Of its encryption.
 * @property {boolean} moved Whether it had version 1 before: then its key opens what was written until it moved.
 * @property {boolean} asked Whether the server was asked if it moved.
 * @property {boolean} begun Whether this browser reads it in version 2; false in version 1.
 * @property {CryptoKey | undefined} key
 * @property {string | null} code The invite code; null when it has expired.
 * @property {{expiresAt: string | null, singleUse: boolean}} invite Until when the code is valid, RFC 3339, and whether the first who joins uses it up.
 * @property {string} wrapped The group's key as it is stored on the server for this member.
 * @property {string} sealedName
 * @property {number} memberCount
 * @property {Map<string, Thread>} threads
 * @property {boolean} more Whether the server has threads that were active earlier.
 * @property {number} listedTo The last activity of the last thread in the loaded pages of the list, by number.
 * @property {Loaded} loaded
 * @property {Member[]} members
 * @property {Set<string>} online
 * @property {Notice[]} notices
 * @property {boolean} caughtUp
 * @property {{close: () => void, position?: {seq: number}} | undefined} subscription
 */

/**
 * A text that is not sent yet.
 *
 * @typedef {object} Waiting
 * @property {string} key
 * @property {string} groupId
 * @property {string | undefined} threadId Left out for a new thread.
 * @property {string | null} title
 * @property {string | null} body Null when it cannot be opened.
 * @property {number} atMs
 * @property {any} draft As the SDK sends it; null in a group of version 2, whose drafts the device keeps.
 * @property {string} [error] Why the server refused it.
 */

/** @typedef {{kind: 'thread' | 'reply' | 'media', group: Group, thread: Thread, author: string, text: string, more: number}} News `more`: earlier events of the thread that it stands for. */

/** @typedef {{group: string, kind: string, seq: number}} Violation A proof that the server's log was changed. */

/**
 * What the model needs of the page around it.
 *
 * @typedef {object} Surroundings
 * @property {OrbitalClient} client
 * @property {Storage} storage
 * @property {Table} keys
 * @property {Table} uploads
 * @property {(name: string, act: () => Promise<void>) => Promise<boolean>} exclusive Run in one tab at a time.
 * @property {<T>(name: string, act: () => Promise<T>) => Promise<T>} alone Run when no other tab runs an act of that name.
 * @property {() => boolean} visible Whether the page is visible.
 * @property {() => Promise<boolean>} persist Ask the browser for persistent storage (Storage Standard §5).
 */

export {};
