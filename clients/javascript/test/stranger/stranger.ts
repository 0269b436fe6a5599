/** Every public name, used as somebody would who has only the package. Checked by tsc, never run. */
import { OrbitalClient, OrbitalError, OrbitalWebSocketManager, RESET, localStorageStore, memoryStore } from '@orbital-relay/client';
import { fileStore } from '@orbital-relay/client/file-store';
import { OrbitalClient as Whole } from '@orbital-relay/client/all';
import type {
  CaughtUp,
  ClientEvents,
  ClientOptions,
  ConnectionOptions,
  ConnectionState,
  DownloadOptions,
  Downloaded,
  Draft,
  EpochChanged,
  Frame,
  Group,
  KeysLow,
  Media,
  MediaInfo,
  Member,
  Message,
  OrbitalEvent,
  OtherEvent,
  Pending,
  Position,
  Progress,
  Quota,
  Reply,
  Reset,
  ResetReason,
  RestMethods,
  StateChanged,
  Store,
  StreamItem,
  SubscribeOptions,
  Subscription,
  Thread,
  TextPage,
  TokenSource,
  TypingIndicator,
  UploadOptions,
  Uploaded,
  Violation,
} from '@orbital-relay/client';
import { BACKOFF, Chain, Cursor, Sha256, delayMs, digest, firstPrev, prevOf, readFrame, wakeMs } from '@orbital-relay/client/rules';
import type { BackoffNumbers, Reading, Verdict } from '@orbital-relay/client/rules';
import { useConnectionState, useGroupEvents, useTyping } from '@orbital-relay/client/react';
import { OrbitalAdminApi } from '@orbital-relay/client/admin';
import { OrbitalApi, isEpochChanged } from '@orbital-relay/client/rest';

/** A value of exactly this type, both ways. */
type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
const same = <A, B>(..._: Same<A, B> extends true ? [] : [never]) => {};

// Options

const mine: Store = {
  get: async (key: string) => JSON.parse(key) as unknown,
  set: async () => {},
  delete: () => true,
  keys: async () => ['a'],
};
const token: TokenSource = async () => 'jwt';
const numbers: Partial<BackoffNumbers> = { ...BACKOFF, attempts: 3 };
const connection: ConnectionOptions = { handshake: 'protocol', backoff: numbers, slackMs: 5000, WebSocket };
const options: ClientOptions = { token, store: mine, verify: 'throw', fetch, ...connection };
// @ts-expect-error a token is no number
const wrong: ClientOptions = { token: 5 };

// The client

const client = new OrbitalClient('https://orbital.example', options);
new OrbitalClient();
client.connect();
client.wake();
const opened: Promise<void> = client.ready();
client.setToken('other');
const state: ConnectionState = client.state;
same<ConnectionState['status'], 'connecting' | 'open' | 'closed'>();
if (state.status === 'closed') console.log(state.code?.toFixed(), state.reason?.trim(), state.retry_at);

const off: () => void = client.on('state', (changed) => console.log(changed.status));
client.on('error', (error) => {
  same<typeof error, OrbitalError>();
  console.log(error.code, error.status, error.details.field, error.retryAfterMs, error.retryable, error.cause);
});
client.on('violation', ({ kind, group_id, seq, expected, found }: Violation) => {
  same<typeof kind, 'changed' | 'skipped' | 'repeated' | 'withheld' | 'left'>();
  console.log(group_id, seq, expected, found);
});
client.on('reset', ({ last, seq, reason }, reset: Reset) => console.log(last, seq, reason, reset.group_id));
client.on('caught_up', ({ seq }, item: CaughtUp) => console.log(seq, item.type));
client.on('typing_indicator', (data: TypingIndicator) => console.log(data.username, data.is_typing));
client.on('auth_success', ({ user_id, expires_at }) => console.log(user_id, expires_at?.length));
client.on('state_changed', (data: StateChanged) => console.log(data.group_id.length));
client.on('keys_low', (low: KeysLow) => console.log(low.device_id.toFixed(), low.hpke_pre_keys.toFixed()));
client.on('sent', ({ key, answer }) => console.log(key, answer.seq.toFixed()));
client.on('open', ({ status }) => console.log(status));
client.on('failed', ({ error, draft }) => console.log(error.code, draft.type));
client.on('authenticated', (data, frame: Frame) => console.log(data.expires_at, frame.server_timestamp));
// @ts-expect-error the state is no string
client.on('state', (changed: string) => changed);
const names: (keyof ClientEvents)[] = ['state', 'error'];
off();

// Hearing

const subscription: Subscription = client.subscribe('group', { since: 0 });
for await (const item of subscription) {
  same<typeof item, StreamItem>();
  switch (item.type) {
    case 'new_message':
      console.log(item.seq, item.data.encrypted_envelope, item.data.sender_id.length);
      break;
    case 'new_thread':
      console.log(item.data.encrypted_title);
      break;
    case 'new_reply':
      console.log(item.data.thread_id);
      break;
    case 'media_uploaded':
      console.log(item.data.size_bytes);
      break;
    case 'media_expired':
      console.log(item.data.expired_at);
      break;
    case 'member_joined':
      console.log(item.data.joined_at);
      break;
    case 'member_left':
      same<typeof item.data.reason, 'left' | 'removed'>();
      break;
    case 'identity_changed':
      console.log(item.data.device_id);
      break;
    case 'new_keys':
      console.log(item.seq, item.data.encrypted_envelope, item.data.sender_id);
      break;
    case 'role_changed':
      same<typeof item.data.role, 'admin' | 'member'>();
      break;
    case 'deleted':
      same<typeof item.data.kind, 'message' | 'thread' | 'reply'>();
      break;
    case 'new_annotation':
      console.log(item.data.target_id, item.data.encrypted_body);
      break;
    case 'new_record':
      console.log(item.data.record, item.data.author_id);
      break;
    case 'reset':
      same<typeof item.data.reason, ResetReason>();
      if (item.data.reason === RESET.GONE) console.log(item.data.last);
      break;
    case 'caught_up':
      console.log(item.data.seq);
      // @ts-expect-error a caught_up has no envelope
      console.log(item.data.encrypted_envelope);
      break;
    default: {
      same<typeof item, OtherEvent>();
      const other: OtherEvent = item;
      // @ts-expect-error a newer server sends more types than are known here
      const none: never = item;
      console.log(other.seq, other.data.whatever, none);
    }
  }
}
const position: Position | undefined = subscription.position;
const hearing: SubscribeOptions = {
  ...(position ? { since: position } : {}),
  store: null,
  onEvent: async (event: OrbitalEvent) => console.log(event.group_id, event.prev),
  onReset: (reset) => console.log(reset.data.last),
  onCaughtUp: (item) => console.log(item.data.seq),
  onEnd: (error) => console.log(error?.code),
};
const heard = client.subscribe('group', hearing);
heard.close();
console.log(heard.closed, heard.groupId);

// Sending

const draft: Draft = { type: 'message', encrypted_envelope: 'AAAA' };
const { message_id } = await client.send('group', { type: 'message', encrypted_envelope: 'AAAA' });
const { thread_id } = await client.send(
  'group',
  { type: 'thread', encrypted_title: 'AAAA', encrypted_body: 'AAAA', root_message_id: message_id },
  { key: 'k' },
);
const { reply_id } = await client.send('group', { type: 'reply', thread_id, encrypted_body: 'AAAA' });
await client.send('group', draft);
await client.send('group', { type: 'reply', thread_id, encrypted_body: 'AAAA', if_epoch: 5 }).catch((refused: unknown) => {
  if (!isEpochChanged(refused)) throw refused;
  same<typeof refused, EpochChanged>();
  console.log(refused.details.epoch.toFixed());
});
// @ts-expect-error a reply needs its thread
client.send('group', { type: 'reply', encrypted_body: 'AAAA' });
const pending: Pending[] = await client.pending();
const gone: boolean = await client.discard('key');
console.log(pending[0]?.created_at, reply_id);
client.typing(thread_id);
client.typing(thread_id, false);

// Media

const upload: UploadOptions = {
  thread_id,
  data: new Blob(['x']),
  encrypted_metadata: 'AAAA',
  encryption_iv: 'AAAA',
  onProgress: ({ loaded, total }: Progress) => console.log(loaded / total),
};
const uploaded: Uploaded = await client.uploadMedia(upload);
await client.uploadMedia({ ...upload, data: new Blob(['x']).stream(), size: 1, media_id: uploaded.media_id });
const download: DownloadOptions = { sha256: uploaded.sha256 };
await client.uploadMedia({ ...upload, if_epoch: 5 });
const { blob, encryption_iv }: Downloaded = await client.downloadMedia(uploaded.media_id, download);
console.log(blob.size, encryption_iv?.length);

// REST, by the client and alone

const api: RestMethods = client.api;
const alone = new OrbitalApi('https://orbital.example', { token: 'jwt' });
for (const one of [api, alone]) {
  const { user_id } = await one.signup({ username: 'anna', password: 'Correct-horse-1', public_key: {} }, { key: 'k' });
  const { public_key } = await one.login({ username: 'anna', password: 'Correct-horse-1' });
  const groups: Group[] = await one.groups();
  const { group_id, invite_code } = await one.createGroup({ encrypted_name: 'AAAA', encrypted_group_key: 'AAAA' }, { key: 'k' });
  const { member_count } = await one.joinGroup({ invite_code, encrypted_group_key: 'AAAA' });
  const members: Member[] = await one.members(group_id);
  await one.removeMember(group_id, user_id);
  const { expires_at } = await one.newInviteCode(group_id);
  const state: string | null = (await one.memberState(group_id)).encrypted_state;
  const changed: string | null = (await one.putMemberState(group_id, 'AA==')).changed_at;
  console.log(state, changed);
  const quota: Quota = await one.quota(group_id);
  const [present] = await one.presence(group_id);
  const { server_timestamp, seq } = await one.postMessage(
    { conversation_id: group_id, encrypted_envelope: 'AAAA', timestamp: 1 },
    { signal: AbortSignal.timeout(5) },
  );
  const { messages, has_more }: { messages: Message[]; has_more: boolean } = await one.messages({ since: server_timestamp, limit: 5 });
  const { events, last_seq } = await one.events({ group_id, after_seq: 0 });
  const texts: string[] = await one.eventTexts(group_id);
  const page: TextPage = await one.eventPage({ group_id, after_seq: 5 });
  for await (const group of one.eachGroup()) same<typeof group.invite_code, string | null>();
  for await (const event of one.eachEvent({ group_id })) console.log(event.seq, page.has_more);
  for await (const { reply_id } of one.eachReply('thread')) console.log(reply_id);
  for await (const { thread_id } of one.eachThread(group_id, { sort: 'created_asc' })) console.log(thread_id);
  for await (const { message_id } of one.eachMessage({ since: 5 })) console.log(message_id);
  const posted = await one.createThread({ group_id, encrypted_title: 'AAAA', encrypted_body: 'AAAA' });
  const { threads } = await one.threads(group_id, { sort: 'created_asc' });
  const thread: Thread & { media: Media[] } = await one.thread(posted.thread_id);
  const { replies }: { replies: Reply[] } = await one.replies(thread.thread_id, { offset: 5 });
  const reply = await one.createReply(thread.thread_id, { encrypted_body: 'AAAA' });
  const media: Media[] = await one.threadMedia(thread.thread_id);
  const medium: MediaInfo = await one.media('m');
  const { device_id, counts } = await one.publishKeys({ identity_key: 'AAAA', suites: 2 }, { key: 'k' });
  const [device] = await one.devices(group_id);
  for await (const { user_id, identity_key } of one.eachDevice(group_id)) console.log(user_id, identity_key);
  const [bundle] = await one.claimKeys(group_id, [{ user_id, device_id, suite: 16 }]);
  // @ts-expect-error a suite is 1 or 16
  one.claimKeys(group_id, [{ user_id, device_id, suite: 2 }]);
  const [own] = await one.keyCounts();
  await one.removeDevice(device_id);
  const { keys_id } = await one.postKeys({ group_id, encrypted_envelope: 'AAAA', if_epoch: 5 });
  const keys = await one.keyMessages({ group_id, limit: 5 });
  for await (const { type, data } of one.eachKeyMessage({ group_id })) console.log(type === 'new_keys', data.sender_id);
  const { record_id } = await one.postRecord(group_id, { record: 'AAAA', if_epoch: 5 });
  const [record] = await one.records(group_id);
  for await (const { author_id } of one.eachRecord(group_id)) console.log(author_id);
  const { mailbox } = await one.openMailbox();
  await one.fillMailbox(mailbox, 'AAAA');
  const mail: string | undefined = await one.readMailbox(mailbox, { wait: 5 });
  console.log(counts.pre_keys, device?.suites, bundle?.hpke_pre_key?.id, own?.hpke_pre_keys, keys_id, keys.events[0]?.data.keys_id);
  console.log(record_id, record?.record, mail?.length);
  const { ticket } = await one.wsTicket();
  await one.logout();
  console.log(
    public_key,
    groups,
    member_count,
    members,
    expires_at,
    quota.is_full,
    present?.connections,
    seq,
    messages,
    has_more,
    events[0]?.type,
  );
  console.log(last_seq, texts, threads, replies, reply.created_at, media, medium.size_bytes, ticket);
}

// The published face

const manager = new OrbitalWebSocketManager('wss://orbital.example', 'jwt');
new OrbitalWebSocketManager('wss://orbital.example', token, connection);
const stop: () => void = manager.on('new_thread', (data) => console.log(data.thread_id));
manager.on('max_reconnect_attempts', () => {});
manager.connect();
manager.subscribe(['group']);
manager.resubscribeToGroups();
manager.unsubscribe(['group']);
const went: boolean = manager.send({ type: 'typing_indicator', data: {} });
manager.emit('mine', 5);
manager.handleMessage({ type: 'mine', data: {} });
manager.reconnect();
manager.token = async () => 'other';
manager.maxReconnectAttempts = 5;
manager.reconnectDelays = [1000];
console.log(
  manager.ws?.readyState,
  manager.subscribedGroups,
  manager.reconnectAttempts,
  manager.apiUrl,
  manager.eventHandlers,
  manager.state.status,
  went,
);
manager.close();
stop();

// The administration

const admin = new OrbitalAdminApi('https://orbital.example', { token });
await admin.setUserRole('ben', 'admin');
// @ts-expect-error a founder is a role in a group, not on the server
await admin.setUserRole('ben', 'founder');
for await (const { username, media_bytes } of admin.eachUser({ search: 'b' })) console.log(username.trim(), media_bytes.toFixed());
console.log((await admin.invite({ note: 'ben' })).invitation.trim(), (await admin.storage()).media_total_bytes?.toFixed());

// The rules

const verdict: Verdict = new Cursor(4).offer(5);
const reading: Reading = readFrame('{}');
if (reading.makes === 'event') console.log(reading.frame.seq.toFixed());
else if (reading.makes === 'bad') console.log(reading.reason);
console.log(verdict, delayMs(BACKOFF, 0, 0.5), wakeMs(BACKOFF, 0, Date.now(), []), names, wrong);
const chain = new Chain(firstPrev('group'));
const fits: boolean = chain.offer('{}');
console.log(fits, chain.prev, prevOf('{}'), digest('x'), new Sha256().update(new Uint8Array(1)).digest().length);
memoryStore().set('a', 1);
const file: Store = await fileStore('positions.json');
new Whole('https://orbital.example', { store: file }).close();
console.log(gone, opened);
localStorageStore('orbital:anna:', sessionStorage).get('a');
const error = new OrbitalError('MINE', 'mine', { status: 400 });
console.log(error.message);

// React

export function Component() {
  const {
    events,
    caughtUp,
    reset,
    error: refused,
  } = useGroupEvents(client, 'group', { since: 0, limit: 100, onEvent: (event) => console.log(event.seq) });
  const { status } = useConnectionState(client);
  const { typists, typing } = useTyping(client, thread_id);
  useTyping(client, null);
  useGroupEvents(client, null);
  typing();
  return `${events[0]?.type} ${caughtUp} ${reset?.data.seq} ${refused?.code} ${status} ${typists[0]?.username}`;
}
client.close(4000, 'done');
