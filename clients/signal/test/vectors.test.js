// SPDX-License-Identifier: AGPL-3.0-only
/** The committed vectors, read by the installed libsignal: a new version that disagrees with them is found here. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
// biome-ignore format: a list is read across the line
import {
  Fingerprint, ProtocolAddress, PublicKey, SenderKeyDistributionMessage, groupDecrypt, hkdf, processSenderKeyDistributionMessage,
} from '@signalapp/libsignal-client';
import { Unit, fromHex, memoryStore, toHex, uuidBytes } from '@orbital-relay/e2ee';
import { SenderKeys } from '../src/stores.js';

const vectors = (name) => JSON.parse(readFileSync(new URL(`../../../spec/vectors/e2ee/${name}.json`, import.meta.url), 'utf8'));

test('[SGL10] The installed libsignal reproduces the committed vectors: chains, signatures, safety numbers, HKDF.', async () => {
  for (const { name, skdm, messages, read_in_order } of vectors('chains').cases) {
    const [store, sender] = [new SenderKeys(new Unit(memoryStore())), ProtocolAddress.new('a', 1)];
    await processSenderKeyDistributionMessage(sender, SenderKeyDistributionMessage.deserialize(fromHex(skdm)), store);
    for (const at of read_in_order)
      assert.equal(toHex(await groupDecrypt(sender, store, fromHex(messages[at].message))), messages[at].plain, `${name}, message ${at}`);
  }
  for (const { name, public_key, message, signature, libsignal } of vectors('signatures').cases)
    assert.equal(PublicKey.deserialize(fromHex(public_key)).verify(fromHex(message), fromHex(signature)), libsignal, name);
  for (const { name, public_key, message, signature } of vectors('identities').cases)
    assert.equal(PublicKey.deserialize(fromHex(public_key)).verify(fromHex(message), fromHex(signature)), true, name);
  for (const { name, local, remote, digits, scannable } of vectors('safety-numbers').cases) {
    const key = ({ identity }) => PublicKey.deserialize(fromHex(identity));
    const made = Fingerprint.new(5200, 2, uuidBytes(local.user), key(local), uuidBytes(remote.user), key(remote));
    assert.deepEqual([made.displayableFingerprint().toString(), toHex(made.scannableFingerprint().toBuffer())], [digits, scannable], name);
  }
  for (const { name, material, salt, info, length, output } of vectors('hkdf').cases)
    assert.equal(toHex(hkdf(length, fromHex(material), new TextEncoder().encode(info), salt && fromHex(salt))), output, name);
});
