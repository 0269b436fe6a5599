"""The relay under seeded disorder: each listener receives exactly what it should, in order."""

from __future__ import annotations

import asyncio
import os

import pytest

from orbital_relay.errors import NotFound, Unavailable
from orbital_relay.model import JoinGroup, LeaveGroup, Principal
from orbital_relay.relay.bus_messages import encode_event
from tests.sim.world import Client, Node, World, create_groups, message, uuid_of

SEEDS = int(os.environ.get("ORBITAL_SIM_SEEDS", "40"))


async def _live(world: World, ids: list[str], *, steps: int) -> None:
    """Let people post, come, go, crawl, be removed and come back; in no particular order."""
    chance = world.disorder.random
    posts: set[asyncio.Task[object]] = set()
    for step in range(steps):
        await world.disorder.turns(3)
        for client in world.clients:
            client.take()
        act = chance.random()
        node = chance.choice(world.nodes)
        user = chance.choice(world.users)
        group_id = chance.choice(ids)
        if act < 0.55:
            draft = message(user, group_id, step, chance.choice((4, 40, 400)))
            posts.add(asyncio.create_task(world.append(node, draft)))
        elif act < 0.65:
            _connect(world, node, user, ids)
        elif act < 0.72 and world.clients:
            _reconnect(world, chance.choice(world.clients), chance.choice(world.nodes), ids)
        elif act < 0.78 and world.clients:
            client = chance.choice(world.clients)
            client.say("unsubscribe", group_ids=[group_id])
        elif act < 0.84 and world.clients:
            chance.choice(world.clients).subscribe([group_id, "no-group", uuid_of(9_999)])
        elif act < 0.90:
            owner = world.users[ids.index(group_id) % len(world.users)]
            leave = LeaveGroup(actor=owner, at_ms=0, group_id=group_id, user_id=user.user_id)
            if user is not owner:
                posts.add(asyncio.create_task(world.append(node, leave)))
        elif act < 0.96:
            join = JoinGroup(actor=user, at_ms=0, invite_code=group_id, encrypted_group_key="AA")
            posts.add(asyncio.create_task(world.append(node, join)))
        elif act < 0.98 and world.goes_back:
            group = world.store.groups[group_id]
            # Never beyond its first event: a group that was lost has no listeners to be complete.
            group.go_back(chance.randrange(1, group.head.seq + 1))
        elif act < 0.98:
            group = world.store.groups[group_id]
            group.floor = max(group.floor, group.head.seq - chance.choice((0, 3, 30)))
    await asyncio.gather(*posts)


def _connect(world: World, node: Node, user: Principal, ids: list[str]) -> None:
    chance = world.disorder.random
    room, pace = chance.choice(((100_000, 100_000), (2_000, 300), (600, 80)))
    client = Client(world, node, user, room=room, pace=pace)
    world.clients.append(client)
    client.subscribe(chance.sample(ids, chance.randrange(1, len(ids) + 1)))


def _reconnect(world: World, old: Client, node: Node, ids: list[str]) -> None:
    """Come back, perhaps to another server, and ask for what was missed."""
    since = {group_id: number - 1 for group_id, number in old.next.items()}
    old.end()
    world.clients.remove(old)
    chance = world.disorder.random
    client = Client(world, node, old.user, room=old.room, pace=old.pace)
    world.clients.append(client)
    groups = chance.sample(ids, chance.randrange(1, len(ids) + 1))
    client.subscribe(sorted({*groups, *since}), since)


def _assert_complete(world: World) -> None:
    for client in world.clients:
        for group_id, following in client.next.items():
            group = world.store.groups[group_id]
            assert client.user.key in group.members
            assert following == group.head.seq + 1, f"{client.user.user_id} stands at {following} of {group.head.seq}"
            frames = client.frames[group_id]
            assert frames == [event.frame for event in group.events[group.head.seq - len(frames) :]]


@pytest.mark.parametrize("seed", range(SEEDS))
@pytest.mark.parametrize("nodes, loss", [(1, 0.0), (3, 0.0), (3, 0.3)])
async def test_every_listener_receives_the_log(seed, nodes, loss):
    """[PROM1] [PROM2] [PROM3] [PROM4] Only members receive events, in order, none lost, without gap or duplicate."""
    print(f"seed {seed}, {nodes} servers, {loss:.0%} of the bus messages lost")
    world = World(seed, nodes=nodes, loss=loss)
    for node in world.nodes:
        await node.start()
    ids = await create_groups(world, 4)

    await _live(world, ids, steps=250)
    await world.wait_idle()

    _assert_complete(world)
    # An unlucky seed, which removes members early, gives some sixty frames.
    assert world.checked > 20
    await world.close()


@pytest.mark.parametrize("seed", range(SEEDS // 4))
async def test_an_outage_of_the_store(seed, monkeypatch):
    """[PROM3] While the store is unreachable posts are refused and sockets stay; afterwards everything is delivered."""
    print(f"seed {seed}")
    # The simulation has no clock: a wait of one second would exceed the observed time.
    monkeypatch.setattr("orbital_relay.relay.repair.RETRY_S", 0)
    world = World(seed, nodes=2, loss=0.2)
    for node in world.nodes:
        await node.start()
    ids = await create_groups(world, 3)
    for user in world.users:
        _connect(world, world.disorder.random.choice(world.nodes), user, ids)
    await _live(world, ids, steps=60)

    world.store.away = True
    await _live(world, ids, steps=30)
    world.store.away = False
    await _live(world, ids, steps=60)
    await world.wait_idle()

    _assert_complete(world)
    await world.close()


async def test_a_resume_of_many_groups_is_few_calls():
    """[RSM2] A client that resumes 40 groups causes as many store calls as one that resumes two."""
    world = World(11, nodes=1)
    await world.nodes[0].start()
    ids = await create_groups(world, 40)
    calls = []
    for count in (2, 40):
        client = Client(world, world.nodes[0], world.users[0], room=10_000, pace=10_000)
        world.clients.append(client)
        before = world.store.calls

        client.subscribe(ids[:count], {group_id: len(world.users) for group_id in ids[:count]})
        await world.wait_idle()

        calls.append(world.store.calls - before)
        client.end()
    assert calls[0] == calls[1]
    await world.close()


async def test_a_resume_of_many_groups_that_missed_events_is_few_calls():
    """[RSM3] A client that resumes 200 groups, all of which missed events, causes as many store calls as with two."""
    world = World(11, nodes=1)
    await world.nodes[0].start()
    ids = await create_groups(world, 200)
    calls = []
    for count in (2, 200):
        client = Client(world, world.nodes[0], world.users[0], room=100_000, pace=100_000)
        world.clients.append(client)
        before = world.store.calls

        client.subscribe(ids[:count], {group_id: len(world.users) - 1 for group_id in ids[:count]})
        await world.wait_idle()

        calls.append(world.store.calls - before)
        assert [client.received[group_id][-1] for group_id in ids[:count]] == [len(world.users)] * count
        client.end()
    assert calls[0] == calls[1]
    await world.close()


async def test_a_resume_whose_common_read_fails(monkeypatch):
    """[RSM4] If the common read of the groups that a client resumes fails, each is read alone; nothing is lost."""
    world = World(11, nodes=1)
    await world.nodes[0].start()
    ids = await create_groups(world, 3)
    failed = []

    async def unavailable(ranges):
        failed.append(set(ranges))
        raise Unavailable("the database restarts")

    monkeypatch.setattr(world.store, "read_many", unavailable)
    client = Client(world, world.nodes[0], world.users[0], room=10_000, pace=10_000)
    world.clients.append(client)

    client.subscribe(ids, {group_id: len(world.users) - 1 for group_id in ids})
    await world.wait_idle()

    assert failed == [set(ids)]
    # The position that it named, and the event after it.
    assert [client.received[group_id] for group_id in ids] == [[-len(world.users), len(world.users)]] * 3
    client.end()
    await world.close()


async def test_a_resume_whose_reads_fail(monkeypatch):
    """[RSM5] A group that a client resumes is read again when its own read fails, too; nothing is lost."""
    monkeypatch.setattr("orbital_relay.relay.repair.RETRY_S", 0)
    world = World(11, nodes=1)
    await world.nodes[0].start()
    ids = await create_groups(world, 3)
    failed = []
    read = world.store.read

    async def unavailable(*_args):
        raise Unavailable("the database restarts")

    async def read_later(group_id, **about):
        if group_id not in failed:
            failed.append(group_id)
            raise Unavailable("the database restarts")
        return await read(group_id, **about)

    monkeypatch.setattr(world.store, "read_many", unavailable)
    monkeypatch.setattr(world.store, "read", read_later)
    client = Client(world, world.nodes[0], world.users[0], room=10_000, pace=10_000)
    world.clients.append(client)

    client.subscribe(ids, {group_id: len(world.users) - 1 for group_id in ids})
    await world.wait_idle()

    assert sorted(failed) == sorted(ids)
    assert [client.received[group_id] for group_id in ids] == [[-len(world.users), len(world.users)]] * 3
    client.end()
    await world.close()


async def test_a_log_restored_from_a_backup():
    """[PROM4] A client that is ahead of a restored log receives `recovered: false`, and later events."""
    world = World(7, nodes=1)
    await world.nodes[0].start()
    (group_id,) = await create_groups(world, 1)
    for number in range(20):
        await world.append(world.nodes[0], message(world.users[0], group_id, number, 4))
    world.store.groups[group_id].events = world.store.groups[group_id].events[:10]
    client = Client(world, world.nodes[0], world.users[0], room=10_000, pace=10_000)
    world.clients.append(client)

    client.subscribe([group_id], {group_id: 20})
    await world.wait_idle()
    await world.append(world.nodes[0], message(world.users[0], group_id, 99, 4))
    await world.wait_idle()

    assert client.received[group_id] == [-11, 11]
    await world.close()


@pytest.mark.parametrize("seed", range(SEEDS))
@pytest.mark.parametrize("nodes, loss", [(1, 0.0), (3, 0.3)])
async def test_a_log_that_is_rewound_under_running_servers(seed, nodes, loss):
    """[REWIND3] Whenever the log loses its end, each listener receives its new position, and misses nothing later."""
    print(f"seed {seed}, {nodes} servers, {loss:.0%} of the bus messages lost")
    world = World(seed, nodes=nodes, loss=loss, goes_back=True)
    for node in world.nodes:
        await node.start()
    ids = await create_groups(world, 4)

    await _live(world, ids, steps=250)
    await world.wait_idle()
    # Events continue after the last loss.
    for number, group_id in enumerate(ids):
        author = world.users[number % len(world.users)]
        await world.append(world.nodes[-1], message(author, group_id, 5_000 + number, 4))
    await world.wait_idle()

    _assert_complete(world)
    await world.close()


@pytest.mark.parametrize("grown", [0, 1, 3])
async def test_a_log_that_is_rewound_under_a_subscribed_group(grown):
    """[REWIND7] Old and new subscribers receive the new head of a log that is shorter, or that grew again unnoticed."""
    world = World(7, nodes=1, goes_back=True)
    await world.nodes[0].start()
    (group_id,) = await create_groups(world, 1)
    clients = [Client(world, world.nodes[0], user, room=10_000, pace=10_000) for user in world.users[:2]]
    world.clients += clients
    clients[0].subscribe([group_id])
    await world.wait_idle()

    world.store.groups[group_id].go_back(4)
    for number in range(grown):
        world.store._one(message(world.users[0], group_id, number, 4), 0)
    clients[1].subscribe([group_id])
    await world.wait_idle()

    assert clients[0].received[group_id] == [-7, -5 - grown]
    assert clients[1].received[group_id] == [-5 - grown]
    assert world.nodes[0].relay.counters.restored == 1
    await world.close()


async def test_a_post_after_the_log_was_rewound():
    """[REWIND8] The first post after a loss detects it at once; from then on a listener receives every post."""
    world = World(7, nodes=1, goes_back=True)
    relay = world.nodes[0].relay
    await world.nodes[0].start()
    (group_id,) = await create_groups(world, 1)
    for number in range(20):
        await world.append(world.nodes[0], message(world.users[0], group_id, number, 4))
    client = Client(world, world.nodes[0], world.users[0], room=10_000, pace=10_000)
    world.clients.append(client)
    client.subscribe([group_id])
    await world.wait_idle()

    world.store.groups[group_id].go_back(10)
    await world.append(world.nodes[0], message(world.users[0], group_id, 90, 4))
    while relay._tasks.running:
        await asyncio.sleep(0)
    for number in (91, 92):
        await world.append(world.nodes[0], message(world.users[0], group_id, number, 4))

    assert client.received[group_id] == [-27, -12, 12, 13]
    await world.close()


async def test_a_group_that_was_lost():
    """[REWIND9] A subscriber of a group that a restored log never had receives the end of the subscription."""
    world = World(7, nodes=2, goes_back=True)
    for node in world.nodes:
        await node.start()
    (group_id,) = await create_groups(world, 1)
    client = Client(world, world.nodes[0], world.users[0], room=10_000, pace=10_000)
    world.clients.append(client)
    client.subscribe([group_id])
    await world.wait_idle()

    lost = world.store.groups.pop(group_id)
    world.store.read = _read_of(world.store)
    await world.wait_idle()

    assert lost.head.seq == 6
    assert client.next == {}
    assert [kind for kind, *_ in client.trace] == ["auth_success", "subscribed", "unsubscribed"]
    await world.close()


def _read_of(store):
    """Return the store's `read`, which says of a group that does not exist what a real one says."""
    read = store.read

    async def known(group_id, **kwargs):
        if group_id not in store.groups:
            raise NotFound("no such group")
        return await read(group_id, **kwargs)

    return known


async def test_a_gap_right_when_a_repair_ends(monkeypatch):
    """[PROM3] A gap detected in the loop iteration in which the group's last repair ended starts another one."""
    world = World(7, nodes=2)
    store, relay = world.store, world.nodes[0].relay
    for node in world.nodes:
        await node.start()
    (group_id,) = await create_groups(world, 1)
    client = Client(world, world.nodes[0], world.users[0], room=10_000, pace=10_000)
    world.clients.append(client)
    client.subscribe([group_id])
    await world.wait_idle()

    def elsewhere(number: int) -> None:
        """Let another server store two events, of which only the bus message of the second comes through."""
        for each in (number, number + 1):
            event = store._one(message(world.users[0], group_id, each, 4), 0).event
        relay.receive(group_id, encode_event(event))

    read = store.read

    async def read_and_hear(*args, **kwargs):
        page = await read(*args, **kwargs)
        # The loop runs this next, before anything that waits for the repair.
        if len(store.groups[group_id].events) == 8:
            asyncio.get_running_loop().call_soon(elsewhere, 3)
        return page

    monkeypatch.setattr(store, "read", read_and_hear)
    elsewhere(1)
    while relay._tasks.running:
        await asyncio.sleep(0)

    assert client.received[group_id] == [-7, 7, 8, 9, 10]
    await world.close()


async def test_pruned_and_removed():
    """[PROM1] A slow reader who is removed and misses pruned events receives no number after its removal."""
    world = World(7, nodes=1)
    relay = world.nodes[0].relay
    await world.nodes[0].start()
    (group_id,) = await create_groups(world, 1)
    owner, slow = world.users[:2]
    client = Client(world, world.nodes[0], slow, room=600, pace=0)
    world.clients.append(client)
    client.subscribe([group_id])
    while group_id not in client.next:
        await asyncio.sleep(0)

    for number in range(80):
        await world.append(world.nodes[0], message(owner, group_id, number, 9_000))
    await world.append(world.nodes[0], LeaveGroup(actor=owner, at_ms=0, group_id=group_id, user_id=slow.user_id))
    await world.append(world.nodes[0], message(owner, group_id, 99, 4))
    world.store.groups[group_id].floor = world.store.groups[group_id].head.seq
    client.pace = 100_000
    while not client.idle or relay._tasks.running:
        client.take()
        await asyncio.sleep(0)

    assert [kind for kind, *_ in client.trace if kind != "new_message"] == [
        "auth_success",
        "subscribed",
        "unsubscribed",
    ]
    await world.close()


async def test_removed_before_a_group_was_opened_by_another(monkeypatch):
    """[PROM1] A membership read before a removal subscribes nobody, also when another listener opened the group."""
    world = World(7, nodes=1)
    relay = world.nodes[0].relay
    await world.nodes[0].start()
    (group_id,) = await create_groups(world, 1)
    owner, removed, other = world.users[:3]
    read, late = asyncio.Event(), asyncio.Event()
    memberships = world.store.memberships

    async def memberships_late(user, group_ids):
        found = await memberships(user, group_ids)
        if user == removed.key and not read.is_set():
            read.set()
            await late.wait()
        return found

    monkeypatch.setattr(world.store, "memberships", memberships_late)
    clients = [Client(world, world.nodes[0], user, room=10_000, pace=10_000) for user in (removed, other)]
    world.clients += clients
    clients[0].subscribe([group_id])
    await read.wait()
    # No listener of the group yet: events that pass are ignored.
    await relay.appender.append(LeaveGroup(actor=owner, at_ms=0, group_id=group_id, user_id=removed.user_id))
    clients[1].subscribe([group_id])
    while group_id not in clients[1].next:
        await asyncio.sleep(0)

    late.set()
    await world.wait_idle()
    await relay.appender.append(message(owner, group_id, 1, 4))
    await world.wait_idle()

    assert clients[0].received == {}
    assert clients[1].received[group_id] == [-8, 8]
    await world.close()
