/**
 * What the scenario's functions do. CommonJS, since Artillery 2.0 loads a `.cjs` processor the same way on every Node.
 *
 * Artillery's own `send` with `match` or `capture` looks at the next frame only, whatever it is, and fails when that is
 * a ping or somebody else's event. Here one listener takes every frame, answers pings, and gives each answer to the
 * request that waits for it, by the frame's `id`.
 */
'use strict';

const { createHmac, randomUUID } = require('node:crypto');

const WAIT_MS = 10_000;
const http = process.env.ORBITAL_URL ?? 'http://localhost:3000';
const secret = process.env.JWT_SECRET;

const base64url = (value) => Buffer.from(value).toString('base64url');

/** A token as any service that shares the secret may issue it (RFC 7519, HS256). */
function token(userId) {
  const now = Math.floor(Date.now() / 1000);
  const claims = { userId, username: `load_${userId.slice(0, 8)}`, iat: now, exp: now + 3600 };
  const signed = `${base64url('{"alg":"HS256","typ":"JWT"}')}.${base64url(JSON.stringify(claims))}`;
  return `${signed}.${createHmac('sha256', secret).update(signed).digest('base64url')}`;
}

/** One request of the REST side; throws with the server's own words when it is refused. */
async function call(path, bearer, body) {
  const response = await fetch(`${http}${path}`, {
    method: 'POST',
    headers: { authorization: `Bearer ${bearer}`, 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  const answer = await response.json();
  if (!response.ok) throw new Error(`${path}: ${response.status} ${answer.error}: ${answer.message}`);
  return answer;
}

/** Each of Artillery's workers loads this file for itself and has families of ten of its own. */
const FAMILY = 10;
let places = 0;
let family;

function join(bearer) {
  if (places % FAMILY === 0) {
    family = call('/api/groups', bearer, { encrypted_name: 'bmFtZQ==', encrypted_group_key: 'a2V5' });
    places += 1;
    return family.then((group) => group.group_id);
  }
  places += 1;
  return family
    .then((group) => call('/api/groups/join', bearer, { invite_code: group.invite_code, encrypted_group_key: 'a2V5' }))
    .then((group) => group.group_id);
}

/** Makes a user, lets it into a family, and puts its token into the handshake's header. */
function connect(wsArgs, context, done) {
  if (!secret) {
    done(new Error("set JWT_SECRET to the server's: this processor makes its users' tokens itself"));
    return;
  }
  const bearer = token(randomUUID());
  wsArgs.options = { ...wsArgs.options, headers: { authorization: `Bearer ${bearer}` } };
  join(bearer).then(
    (groupId) => {
      context.vars.groupId = groupId;
      done();
    },
    (error) => done(error),
  );
}

/** Sends a frame and waits for the answer that carries its id. */
function ask(context, type, data) {
  const { waiting } = context.vars;
  const id = randomUUID();
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      waiting.delete(id);
      reject(new Error(`no answer to ${type} within ${WAIT_MS} ms`));
    }, WAIT_MS);
    waiting.set(id, (frame) => {
      clearTimeout(timer);
      waiting.delete(id);
      if (frame.type === 'error') reject(new Error(`${type}: ${frame.data.code}: ${frame.data.message}`));
      else resolve(frame);
    });
    context.ws.send(JSON.stringify({ type, id, data, timestamp: Date.now() }));
  });
}

/** Receives every frame from now on, and subscribes. */
async function listen(context, events) {
  const { vars, ws } = context;
  vars.waiting = new Map();
  vars.sent = new Map();
  vars.seq = undefined;
  vars.mine = 0;
  ws.on('message', (bytes) => {
    const frame = JSON.parse(bytes);
    events.emit('counter', `orbital.frames.${frame.type}`, 1);
    if (frame.type === 'ping') {
      ws.send(JSON.stringify({ type: 'pong', data: { client_time: Date.now() } }));
    } else if (frame.reply_to !== undefined) {
      vars.waiting.get(frame.reply_to)?.(frame);
    } else if (frame.seq !== undefined) {
      received(vars, events, frame);
    }
  });
  const { data } = await ask(context, 'subscribe', { group_ids: [vars.groupId] });
  if (!data.group_ids.includes(vars.groupId)) throw new Error('the subscription was not granted');
  vars.seq ??= data.groups[vars.groupId].seq;
}

function received(vars, events, frame) {
  events.emit('counter', 'orbital.events', 1);
  events.emit('counter', 'orbital.out_of_order', vars.seq === undefined || frame.seq === vars.seq + 1 ? 0 : 1);
  vars.seq = frame.seq;
  const sentMs = vars.sent.get(frame.data.encrypted_envelope);
  if (sentMs !== undefined) {
    events.emit('histogram', 'orbital.delivery_ms', Date.now() - sentMs);
    vars.mine += 1;
  }
}

/** Posts an envelope; its answer says that it is durable. */
async function post(context, events) {
  const envelope = Buffer.from(randomUUID().repeat(4)).toString('base64');
  const sentMs = Date.now();
  context.vars.sent.set(envelope, sentMs);
  await ask(context, 'post_message', { conversation_id: context.vars.groupId, encrypted_envelope: envelope, timestamp: sentMs });
  events.emit('histogram', 'orbital.answer_ms', Date.now() - sentMs);
}

/** What was posted has come back, all of it. */
async function check(context) {
  const { mine, sent } = context.vars;
  if (mine !== sent.size) throw new Error(`${mine} of ${sent.size} own events came back`);
  if (context.ws.readyState !== 1) throw new Error('the connection did not live through the scenario');
}

module.exports = { check, connect, listen, post };
