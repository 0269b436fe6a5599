"""The relay's promises, with hypothesis searching for the shortest counterexample."""

from __future__ import annotations

import asyncio

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from orbital_relay.model import CreateGroup, JoinGroup, LeaveGroup, PostMessage
from tests.sim.world import Client, World, uuid_of

GROUPS = 3
USERS = st.integers(0, 2)
GROUP = st.integers(0, GROUPS - 1)


class RelayMachine(RuleBasedStateMachine):
    """
    People post, come, go, crawl, are removed and come back, at two servers.

    World.check holds every frame against the promises at the moment at which it goes out; here the end is held against
    the log.
    """

    @initialize(seed=st.integers(0, 2**16), nodes=st.sampled_from((1, 2)))
    def begin(self, seed, nodes):
        """Make a world with three groups; everybody is in the first two."""
        self.runner = asyncio.Runner()
        self.runner.run(self._begin(seed, nodes))

    async def _begin(self, seed, nodes):
        self.world = World(seed, nodes=nodes, loss=0.2)
        for node in self.world.nodes:
            await node.start()
        self.number = 0
        owner = self.world.users[0]
        for index in range(GROUPS):
            group_id = uuid_of(index)
            create = CreateGroup(
                actor=owner,
                at_ms=0,
                group_id=group_id,
                encrypted_name="AA",
                encrypted_group_key="AA",
                invite_code=group_id,
                invite_expires_ms=10,
            )
            await self.world.append(self.world.nodes[0], create)
            if index < 2:
                await self._enter(1, index)
                await self._enter(2, index)

    async def _enter(self, user, group):
        join = JoinGroup(actor=self.world.users[user], at_ms=0, invite_code=uuid_of(group), encrypted_group_key="AA")
        await self.world.append(self._node(), join)

    def _node(self):
        return self.world.disorder.random.choice(self.world.nodes)

    def _do(self, work):
        async def run():
            await work
            await self.world.disorder.turns(20)

        self.runner.run(run())

    @rule(user=USERS, group=GROUP, posts=st.integers(1, 4))
    def post(self, user, group, posts):
        """Post some messages at once."""

        async def work():
            drafts = []
            for _ in range(posts):
                self.number += 1
                drafts.append(
                    PostMessage(
                        actor=self.world.users[user],
                        at_ms=0,
                        group_id=uuid_of(group),
                        message_id=uuid_of(self.number),
                        encrypted_envelope="AA",
                    )
                )
            await asyncio.gather(*(self.world.append(self._node(), draft) for draft in drafts))

        self._do(work())

    @rule(user=st.integers(1, 2), group=GROUP)
    def remove(self, user, group):
        """Remove somebody."""
        leave = LeaveGroup(
            actor=self.world.users[0], at_ms=0, group_id=uuid_of(group), user_id=self.world.users[user].user_id
        )
        self._do(self.world.append(self._node(), leave))

    @rule(user=st.integers(1, 2), group=GROUP)
    def enter(self, user, group):
        """Add a member, perhaps again."""
        self._do(self._enter(user, group))

    @rule(user=USERS, groups=st.lists(GROUP, unique=True), slow=st.booleans())
    def connect(self, user, groups, slow):
        """Connect and subscribe."""

        async def work():
            room, pace = (300, 100) if slow else (100_000, 100_000)
            client = Client(self.world, self._node(), self.world.users[user], room=room, pace=pace)
            self.world.clients.append(client)
            client.subscribe([uuid_of(group) for group in groups])

        self._do(work())

    @precondition(lambda self: self.world.clients)
    @rule(which=st.integers(0, 20), group=GROUP, since=st.none() | st.integers(0, 8))
    def subscribe(self, which, group, since):
        """Subscribe to one more group, perhaps with a position."""
        client = self.world.clients[which % len(self.world.clients)]
        positions = None if since is None else {uuid_of(group): since}

        async def work():
            client.subscribe([uuid_of(group)], positions)

        self._do(work())

    @precondition(lambda self: self.world.clients)
    @rule(which=st.integers(0, 20), group=GROUP)
    def unsubscribe(self, which, group):
        """Unsubscribe from a group."""

        async def work():
            self.world.clients[which % len(self.world.clients)].say("unsubscribe", group_ids=[uuid_of(group)])

        self._do(work())

    @precondition(lambda self: self.world.clients)
    @rule(which=st.integers(0, 20))
    def disconnect(self, which):
        """Go away."""

        async def work():
            self.world.clients.pop(which % len(self.world.clients)).end()

        self._do(work())

    @rule()
    def read(self):
        """Let everybody read a little."""

        async def work():
            for client in self.world.clients:
                client.take()

        self._do(work())

    @rule(group=GROUP, kept=st.integers(0, 3))
    def prune(self, group, kept):
        """Keep only the last events of a group."""
        log = self.world.store.groups[uuid_of(group)]
        log.floor = max(log.floor, log.head.seq - kept)

    def teardown(self):
        """Let everything come to rest, and hold everybody against the log."""
        if not hasattr(self, "runner"):
            return
        try:
            self.runner.run(self._end())
        finally:
            self.runner.close()

    async def _end(self):
        await self.world.wait_idle()
        for client in self.world.clients:
            for group_id, following in client.next.items():
                group = self.world.store.groups[group_id]
                assert client.user.key in group.members, "[PROM1] only a member receives events"
                assert following == group.head.seq + 1, "[PROM3] everybody has everything"
        await self.world.close()


RelayMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestRelay = RelayMachine.TestCase
TestRelay.__doc__ = """[PROM1] [PROM2] [PROM3] [PROM4] No short story breaks a promise."""
