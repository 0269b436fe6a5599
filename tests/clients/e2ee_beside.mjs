/** The JavaScript package beside the Python one: answers a question a line, as JSON with bytes in hexadecimal. */
import { createInterface } from 'node:readline';
import { fromHex, toHex } from '../../clients/e2ee/src/bytes.js';
import { foldAnnotations } from '../../clients/e2ee/src/annotation-fold.js';
import { readAnnotation } from '../../clients/e2ee/src/annotation-kinds.js';
import { chainOf, decrypt, encrypt, skdmOf } from '../../clients/e2ee/src/crypto/chain.js';
import { generateSigningKey, toCurve } from '../../clients/e2ee/src/crypto/curve.js';
import { open, seal } from '../../clients/e2ee/src/crypto/hpke.js';
import { decapsulate, encapsulate, fromSeed } from '../../clients/e2ee/src/crypto/xwing.js';
import { readContent } from '../../clients/e2ee/src/formats/content.js';
import { readEnvelope, readPairwise, readSigned } from '../../clients/e2ee/src/formats/envelope.js';
import { readRecord } from '../../clients/e2ee/src/formats/records.js';
import { readSenderKeyMessage, readSkdm } from '../../clients/e2ee/src/formats/sender-key.js';
import { openFile, readMediaInfo, sealFile } from '../../clients/e2ee/src/media.js';
import { safetyNumber } from '../../clients/e2ee/src/safety.js';

const ENC_BYTES = 1120;
const GROUP = '0a0b0c0d-0000-4000-8000-000000000001';
const PARSERS = {
  envelope: readEnvelope,
  pairwise: readPairwise,
  signed: readSigned,
  message: readSenderKeyMessage,
  skdm: readSkdm,
  content: readContent,
  record: (data) => readRecord(GROUP, data),
  media: readMediaInfo,
  annotation: readAnnotation,
};
const buffer = async (blob) => new Uint8Array(await blob.arrayBuffer());

const ANSWERS = {
  async encapsulate({ seed, coins }) {
    const key = await fromSeed(seed);
    const { secret, enc } = await encapsulate(key.public, coins);
    return { secret, enc, again: await decapsulate(key, enc) };
  },
  async seal({ key, info, plain }) {
    const { enc, ciphertext } = await seal(key, info, plain);
    return { sealed: new Uint8Array([...enc, ...ciphertext]) };
  },
  async open({ seed, info, sealed }) {
    const parts = [sealed.slice(0, ENC_BYTES), sealed.slice(ENC_BYTES)];
    return { plain: await open(await fromSeed(seed), parts[0], info, parts[1]) };
  },
  async write({ plains, distribution, key }) {
    const signing = await generateSigningKey(true);
    const begin = { distribution, chain: 7, iteration: 0, chainKey: key, signingKey: toCurve(signing.edwards) };
    let chain = chainOf(begin);
    const skdm = skdmOf(chain);
    const messages = [];
    for (const plain of plains) {
      const made = await encrypt(chain, signing, plain);
      chain = made.chain;
      messages.push(made.message);
    }
    return { skdm, messages };
  },
  async read({ skdm, messages }) {
    let chain = chainOf(readSkdm(skdm));
    const plains = [];
    for (const message of messages) {
      const found = await decrypt(chain, message);
      chain = found.chain;
      plains.push(found.plain);
    }
    return { plains, after: skdmOf(chain) };
  },
  async seal_file({ media, data }) {
    const { key, sealed, sha256 } = await sealFile(media, new Blob([data]));
    return { key, sha256, sealed: await buffer(sealed) };
  },
  async open_file({ media, key, sha256, sealed }) {
    return { data: await buffer(await openFile(media, { key, sha256, type: '' }, new Blob([sealed]))) };
  },
  safety: ({ local, remote }) => safetyNumber(local, remote),
  fold: ({ items }) =>
    [...foldAnnotations(items)].map(([target, { reactions, seen, polls, ...more }]) => {
      const shown = [...polls].map(([id, poll]) => [id, { ...poll, votes: [...poll.votes] }]);
      return [target, { ...more, reactions: [...reactions], seen: [...seen], polls: shown }];
    }),
  parse: ({ parser, data }) => PARSERS[parser](data),
};

const hex = (_, value) => (value instanceof Uint8Array ? { $: toHex(value) } : value);
const bytes = (_, value) => (typeof value?.$ === 'string' ? fromHex(value.$) : value);

for await (const line of createInterface({ input: process.stdin })) {
  const { ask, ...about } = JSON.parse(line, bytes);
  let answer;
  try {
    answer = { is: await ANSWERS[ask](about) };
  } catch (error) {
    if (!error.code) throw error;
    answer = { code: error.code };
  }
  process.stdout.write(`${JSON.stringify(answer, hex)}\n`);
}
