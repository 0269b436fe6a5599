/** Reading a group's log over HTTP. */
import { foreign, readText } from './http.js';
import { readFrame } from './wire.js';

/** @import {Http} from './http.js' */

/** Events of one page: the most that the server gives. */
export const PAGE = 1000;

/**
 * A page of a group's events as the stored texts, byte for byte, so that they can be hashed.
 *
 * @typedef {{texts: string[], last_seq: number | undefined, has_more: boolean | undefined}} TextPage `last_seq`: the group's last number; both
 *   are undefined on a server that does not send `X-Last-Seq` and `X-Has-More`.
 */

/**
 * @param {Http} http
 * @param {string} groupId
 * @param {number} afterSeq
 * @param {number} limit
 * @returns {Promise<TextPage>}
 */
export function textPage(http, groupId, afterSeq, limit) {
  const path = `/v1/events?group_id=${encodeURIComponent(groupId)}&after_seq=${afterSeq}&limit=${limit}`;
  return http.request('GET', path, { headers: { Accept: 'application/x-ndjson' } }, async (response) => {
    const { headers } = response;
    if (!headers.get('Content-Type')?.startsWith('application/x-ndjson')) throw foreign(response);
    const last = headers.get('X-Last-Seq');
    const more = headers.get('X-Has-More');
    return {
      texts: (await readText(response)).split('\n').filter(Boolean),
      last_seq: last === null ? undefined : Number(last),
      has_more: more === null ? undefined : more === 'true',
    };
  });
}

/**
 * Report whether the server's log continues after a position whose hash is known.
 *
 * @param {Http} http
 * @param {string} groupId
 * @param {{seq: number, hash?: string}} position
 * @returns {Promise<boolean>}
 */
export async function continues(http, groupId, { seq, hash }) {
  const { texts } = await textPage(http, groupId, seq, 1);
  const [text = ''] = texts;
  const reading = readFrame(text);
  return reading.makes === 'event' && reading.frame.seq === seq + 1 && reading.frame.prev === hash;
}
