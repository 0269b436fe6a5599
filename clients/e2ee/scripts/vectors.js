/**
 * Make the vectors of the formats that are this project's own: the same bytes on each run. `node scripts/vectors.js` writes spec/vectors/e2ee.
 *
 * The vectors that need libsignal are made by clients/signal.
 */
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { concat, toHex, u32, utf8, uuidBytes } from '../src/bytes.js';
import { importSeed, sign, toCurve } from '../src/crypto/curve.js';
import { seal } from '../src/crypto/hpke.js';
import { gcmSeal, hkdf, sha256 } from '../src/crypto/mac.js';
import { fromSeed } from '../src/crypto/xwing.js';
import { writeContent } from '../src/formats/content.js';
import { deliveryInfo, signedBytes, writeEnvelope, writePairwise, writeSigned } from '../src/formats/envelope.js';
import { linkCodeText, linkNumber, linkPoint, sealLink, writeLinkCode } from '../src/formats/link.js';
import { writeRecord } from '../src/formats/records.js';
import { founderHash, writeInvite } from '../src/invite.js';
import { preKeyBytes } from '../src/hpke-delivery.js';
import { acceptedKey, allSecrets, fold } from '../src/roster.js';

const FOLDER = new URL('../../../spec/vectors/e2ee/', import.meta.url);
const GROUP = '0a0b0c0d-0000-4000-8000-000000000001';
const USERS = {
  ada: 'aaaaaaaa-0000-4000-8000-00000000000a',
  ben: 'bbbbbbbb-0000-4000-8000-00000000000b',
  cleo: 'cccccccc-0000-4000-8000-00000000000c',
};
const { ada, ben, cleo } = USERS;

/** Bytes that are named by a label. @param {string} label @param {number} [length] At most 32. */
const bytes = async (label, length = 32) => (await sha256(utf8(label))).slice(0, length);

/** The Ed25519 public key of a seed: WebCrypto gives it through the JWK of an extractable key. @param {string} label */
async function signer(label) {
  const seed = await bytes(`identity of ${label}`);
  const { x } = await crypto.subtle.exportKey('jwk', await importSeed(seed, true));
  const edwards = Uint8Array.from(Buffer.from(/** @type {string} */ (x), 'base64url'));
  const key = { key: await importSeed(seed), edwards };
  return { seed, publicKey: toCurve(edwards), sign: (/** @type {Uint8Array} */ message) => sign(key, message) };
}

/** Byte strings as hexadecimal, recursively. @param {any} value @returns {any} */
const plain = (value) => JSON.parse(JSON.stringify(value, (_, one) => (one instanceof Uint8Array ? toHex(one) : one)));

async function identities() {
  const cases = [];
  for (const name of Object.keys(USERS)) {
    const { seed, publicKey, sign: signs } = await signer(name);
    const message = utf8(`signed by ${name}`);
    cases.push({ name, seed, public_key: publicKey, message, signature: await signs(message) });
  }
  return { cases };
}

async function contents() {
  const base = {
    kind: 4,
    group: GROUP,
    context: uuidBytes('11111111-2222-4333-8444-555555555555'),
    at: 1_800_000_000_000,
    nonce: await bytes('nonce', 16),
  };
  const head = { headSeq: 4711, headHash: await bytes('head', 16) };
  const bodies = {
    empty: '',
    'a short text': 'hello',
    'a text that fills the first block': 'x'.repeat(50),
    'one letter more': 'x'.repeat(51),
    'of three blocks': 'Grüße 👋 '.repeat(30),
  };
  const cases = [];
  for (const [name, body] of Object.entries(bodies)) {
    const content = { ...base, body: utf8(body), ...(name === 'empty' ? {} : head) };
    cases.push({ name, content, padded: writeContent(content) });
  }
  return { cases };
}

async function envelopes() {
  const delivery = { user: ben, device: 2, suite: 16, sealed: await bytes('sealed') };
  const messages = {
    content: { content: await bytes('message') },
    'keys for two devices': {
      keys: { device: 1, epoch: 2 ** 40, deliveries: [delivery, { ...delivery, user: cleo, device: 127, suite: 1 }] },
    },
    request: { request: { device: 3, distribution: await bytes('distribution', 16) } },
  };
  const pairwise = { group: GROUP, epoch: 12, history: [], shareable: false };
  // biome-ignore format: a list is read across the line
  const pairwises = {
    bare: pairwise,
    full: {
      ...pairwise, skdm: await bytes('skdm'), headSeq: 11, headHash: await bytes('head', 16), secret: await bytes('secret', 16), secretNumber: 2, shareable: true,
      history: [{ user: cleo, device: 1, skdm: await bytes('older'), proof: await bytes('proof'), proofKeyId: 9 }, { user: ada, device: 1, skdm: await bytes('own') }],
    },
  };
  return {
    envelopes: Object.entries(messages).map(([name, envelope]) => ({ name, envelope, bytes: writeEnvelope(envelope) })),
    pairwises: Object.entries(pairwises).map(([name, one]) => ({ name, pairwise: one, bytes: writePairwise(one) })),
  };
}

/** What the parsers refuse, and the code. */
function refusals() {
  const id = '0a10' + '11'.repeat(16);
  /** @type {[string, string, string, string][]} */
  const rows = [
    ['version 1', 'envelope', '01', 'unsupported'],
    ['no bytes', 'envelope', '', 'unsupported'],
    ['a truncated length', 'envelope', '020a80', 'malformed'],
    ['a truncated field', 'envelope', '020a0401', 'malformed'],
    ['a length that is not in its shortest form', 'envelope', '020a810001', 'malformed'],
    ['field number 0', 'envelope', '020201', 'malformed'],
    ['a group', 'envelope', '0223', 'malformed'],
    ['a known field as a number', 'envelope', '020801', 'malformed'],
    ['keys without their fields', 'envelope', '021200', 'malformed'],
    ['a request of device 128', 'envelope', '021a15' + '088001' + '1210' + '11'.repeat(16), 'malformed'],
    ['another version', 'message', '32' + id, 'unsupported'],
    ['shorter than a signature', 'message', '33' + id, 'malformed'],
    ['a ciphertext of 15 bytes', 'message', '33' + id + '1001' + '1800' + '220f' + '00'.repeat(15) + '00'.repeat(64), 'malformed'],
    ['an empty ciphertext', 'message', '33' + id + '1001' + '1800' + '2200' + '00'.repeat(64), 'malformed'],
    ['a chain id of 33 bits', 'message', '33' + id + '108080808010' + '1800' + '2210' + '00'.repeat(16) + '00'.repeat(64), 'malformed'],
    ['a chain key of 31 bytes', 'skdm', '33' + id + '1001' + '1800' + '221f' + '00'.repeat(31) + '2a21' + '05'.repeat(33), 'malformed'],
    ['no signing key', 'skdm', '33' + id + '1001' + '1800' + '2220' + '00'.repeat(32), 'malformed'],
    ['content without padding', 'content', '00'.repeat(159), 'malformed'],
    ['content of another length', 'content', '80', 'malformed'],
    ['two kinds', 'record', '0a00' + '1200' + '7a40' + '00'.repeat(64), 'malformed'],
    ['no kind', 'record', '7a40' + '00'.repeat(64), 'unsupported'],
    ['no proof', 'record', '0a00', 'malformed'],
  ];
  return { cases: rows.map(([name, parser, text, code]) => ({ name, parser, bytes: text, code })) };
}

async function invites() {
  const { publicKey } = await signer('ada');
  const secret = await bytes('invite secret', 16);
  const text = writeInvite({ secret, founder: await founderHash(publicKey) });
  return {
    cases: [{ name: 'an invite', secret, founder_identity: publicKey, text }],
    refused: [
      '',
      text.slice(1),
      `${text}A`,
      `${text.slice(0, 42)}=`,
      `${text.slice(0, 42)}!`,
      text.slice(0, 42) + (text.endsWith('A') ? 'B' : 'D'),
    ],
  };
}

async function deliveries() {
  const [from, to] = [await signer('ada'), await signer('ben')];
  const cases = [];
  for (const [name, id, device] of /** @type {[string, number, number][]} */ ([
    ['to the first device', 7, 1],
    ['with a large pre-key id', 0xfffffffe, 127],
  ])) {
    const seed = await bytes(`pre-key ${id}`);
    const preKey = await fromSeed(seed);
    const way = { group: GROUP, from: { user: ada, device: 1 }, to: { user: ben, device } };
    const pairwise = writePairwise({ group: GROUP, epoch: 5, skdm: await bytes('skdm'), history: [], shareable: true });
    const info = deliveryInfo(GROUP, way.from, way.to);
    const signed = writeSigned({ pairwise, identity: from.publicKey, signature: await from.sign(signedBytes(info, id, pairwise)) });
    const coins = concat(await bytes(`coins ${id}, first half`), await bytes(`coins ${id}, second half`));
    const { enc, ciphertext } = await seal(preKey.public, info, signed, coins);
    // biome-ignore format: a list is read across the line
    cases.push({
      name, ...way, identity: from.publicKey, info, coins, pairwise, signed, sealed: concat(u32(id), enc, ciphertext),
      pre_key: { id, seed, public_sha256: await sha256(preKey.public), owner: to.publicKey, signature: await to.sign(preKeyBytes(id, preKey.public)) },
    });
  }
  return { cases };
}

async function records() {
  const [a, b, b2, c] = [await signer('ada'), await signer('ben'), await signer('ben, second device'), await signer('cleo')];
  const secret = await bytes('invite secret', 16);
  const second = await bytes('second secret', 16);
  /** @param {string} user @param {number} device @param {{publicKey: Uint8Array}} one */
  const device = (user, number, one) => ({ user, device: number, identity: one.publicKey, suites: 2 });
  // `nextSecret` makes a random secret; the vector needs this one.
  const earlier = await gcmSeal(await hkdf(second, uuidBytes(GROUP), 'orbital/2 earlier\0', 32), new Uint8Array(12), secret);
  /** @type {[string, string, any, any][]} */
  const rows = [
    ['Ada founds', ada, { kind: 'found', ...device(ada, 1, a), history: 0 }, a],
    ['Ben comes in by the invite', ben, { kind: 'knock', ...device(ben, 1, b), secretNumber: 0 }, secret],
    ['a ghost without the secret', cleo, { kind: 'knock', ...device(cleo, 1, c), secretNumber: 0 }, await bytes('guessed', 16)],
    ['Ben links a device', ben, { kind: 'link', ...device(ben, 2, b2), byDevice: 1 }, b],
    ['a link that nobody signed', ben, { kind: 'link', ...device(ben, 3, c), byDevice: 1 }, c],
    ['a second founding', cleo, { kind: 'found', ...device(cleo, 1, c), history: 2 }, c],
    ['a new invite secret', ada, { kind: 'secret', number: 1, byUser: ada, byDevice: 1, earlier }, a],
    ['the old secret proves nothing now', cleo, { kind: 'knock', ...device(cleo, 1, c), secretNumber: 0 }, secret],
    ['Cleo comes in by the new one', cleo, { kind: 'knock', ...device(cleo, 1, c), secretNumber: 1 }, second],
    ['the server names another author', ada, { kind: 'revoke', user: ben, device: 2, byUser: ben, byDevice: 1 }, b],
    ['Ben revokes his second device', ben, { kind: 'revoke', user: ben, device: 2, byUser: ben, byDevice: 1 }, b],
    ['and cannot link it again', ben, { kind: 'link', ...device(ben, 2, b2), byDevice: 1 }, b],
    ['a knock of a person who is here already', ben, { kind: 'knock', ...device(ben, 4, c), secretNumber: 1 }, second],
    ['Ben sets a policy', ben, { kind: 'policy', history: 2, rotationDays: 1, byDevice: 1 }, b],
    ['Ada sets a policy', ada, { kind: 'policy', history: 1, rotationDays: 3, byDevice: 1 }, a],
  ];
  const log = [];
  for (const [name, author, body, proof] of rows)
    log.push({ name, seq: log.length + 2, author, body, bytes: await writeRecord(GROUP, body, proof) });
  const founder = await founderHash(a.publicKey);
  const secrets = await allSecrets(GROUP, log, new Map([[1, second]]));
  const accepted = acceptedKey(ben, 4, c.publicKey);
  const folded = [];
  for (const [name, list] of /** @type {[string, string[]][]} */ ([
    ['as the records say', []],
    ['with the held device accepted', [accepted]],
  ])) {
    const { group: _, ...roster } = await fold(GROUP, log, { founder, secrets, accepted: new Set(list) });
    folded.push({ name, accepted: list, roster });
  }
  return {
    group: GROUP,
    founder,
    latest_secret: { number: 1, secret: second },
    earlier_secrets: Object.fromEntries([...secrets].filter(([number]) => number !== 1)),
    records: log,
    rosters: folded,
  };
}
async function links() {
  const [older, newer] = [await signer('ada'), await signer('the new device of ada')];
  const scalar = await bytes('scalar of the code');
  const fields = { mailbox: await bytes('mailbox', 16), user: ada, device: 2, suites: 2, identity: newer.publicKey };
  const code = { ...fields, point: await linkPoint(scalar), secret: await bytes('secret of the code', 16) };
  const written = await writeLinkCode(code);
  const group = { group: GROUP, founder: await founderHash(older.publicKey), secret: await bytes('invite secret', 16), secretNumber: 0 };
  const bodies = {
    'one group': { groups: [group], verified: [] },
    'two groups and a verified person': {
      groups: [group, { ...group, group: '0a0b0c0d-0000-4000-8000-000000000002', secretNumber: 3 }],
      verified: [ben],
    },
  };
  const cases = [];
  for (const [name, rest] of Object.entries(bodies)) {
    const body = { user: ada, device: 1, identity: older.publicKey, ...rest };
    const ephemeral = await bytes(`ephemeral scalar of ${name}`);
    const sealed = await sealLink({ ...code, bytes: written }, body, older, ephemeral);
    cases.push({ name, body, signing_seed: older.seed, ephemeral_scalar: ephemeral, sealed, number: await linkNumber(written, sealed) });
  }
  return { code, scalar, text: linkCodeText(written), cases };
}

/** @returns {Promise<Record<string, any>>} File names and contents. */
export async function vectors() {
  return plain({
    identities: await identities(),
    contents: await contents(),
    envelopes: await envelopes(),
    refusals: refusals(),
    invites: await invites(),
    links: await links(),
    deliveries: await deliveries(),
    records: await records(),
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url))
  for (const [name, content] of Object.entries(await vectors()))
    writeFileSync(new URL(`${name}.json`, FOLDER), `${JSON.stringify(content, null, 2)}\n`);
