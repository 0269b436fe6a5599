"""The interfaces (ports) that the encryption layer needs, with their guarantees."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol, TypeVar

import msgspec

from orbital_relay.e2ee.formats.envelope import DeviceAddress, KeyDelivery
from orbital_relay.e2ee.formats.records import Signer
from orbital_relay.e2ee.formats.sender_key import SenderKeyMessage
from orbital_relay.e2ee.unit import Unit, Write

T = TypeVar("T")

TABLES: Final = (
    "meta",
    "identities",
    "pre_keys",
    "sender_keys",
    "distributions",
    "shared",
    "own",
    "given",
    "answers",
    "roster",
    "records",
    "members",
    "groups",
    "heads",
    "frames",
    "nonces",
    "items",
    "unhandled",
    "waiting",
    "outbox",
    "warnings",
)
"""The tables of a store. Keys are text and list in its order; values are bytes."""


class DeviceStore(Protocol):
    """
    Where a device keeps everything.

    One `commit` is one transaction: all of it is there after a crash, or none of it. The methods below `run` are called
    within `run` alone.
    """

    async def run(self, work: Callable[[], T]) -> T:
        """Run `work` while no other caller runs one of its own; to its end, also when the caller is cancelled."""

    def get(self, table: str, key: str) -> bytes | None:
        """Return a value; None when there is no such key."""

    def scan(self, table: str, prefix: str, limit: int | None = None) -> list[tuple[str, bytes]]:
        """Return keys that begin with `prefix`, and their values, in the order of the keys; at most `limit`."""

    def commit(self, writes: Sequence[Write], *, durable: bool) -> None:
        """Write all or nothing; with `durable` it is on the disk before this returns."""

    async def close(self) -> None:
        """Release what is open."""


class OfferedKey(msgspec.Struct, frozen=True):
    """A pre-key, signed by its device's identity."""

    id: int
    key: bytes
    signature: bytes


class PublishedKeys(msgspec.Struct, frozen=True, kw_only=True):
    """
    What a device offers in the directory.

    Attributes:
        device: Its number.
        identity: Its identity key, 33 bytes.
        suites: A bit mask of SuiteBits.
        hpke_pre_key: The last resort, when it is due.
        hpke_pre_keys: One-time keys.
    """

    device: int
    identity: bytes
    suites: int
    hpke_pre_key: OfferedKey | None = None
    hpke_pre_keys: list[OfferedKey] = []


class Wanted(msgspec.Struct, frozen=True):
    """A device whose keys are claimed, and the suite: 1 libsignal, 16 HPKE."""

    user: str
    device: int
    suite: int


class KeyBundle(msgspec.Struct, frozen=True, kw_only=True):
    """What a claim gives for one device."""

    user: str
    device: int
    identity: bytes
    hpke_pre_key: OfferedKey | None = None
    last_resort: bool = False

    @property
    def address(self) -> DeviceAddress:
        """The device."""
        return DeviceAddress(self.user, self.device)


class DirectoryDevice(msgspec.Struct, frozen=True, kw_only=True):
    """A device as the server lists it; `seen_at` is milliseconds since the epoch."""

    user: str
    device: int
    identity: bytes
    suites: int
    seen_at: int


class RelayTransport(Protocol):
    """What the server offers; the client's transport implements it."""

    async def post(self, group: str, kind: str, body: dict[str, Any], *, key: str, if_epoch: int | None = None) -> int:
        """
        Post, and return the number of the event; 0 when the server does not say.

        Args:
            group: The group.
            kind: The event's type, `new_reply` for instance.
            body: Its fields.
            key: The idempotency key.
            if_epoch: Refuse the post when the group's epoch is higher.

        Raises:
            E2eeError: `epoch_changed` with `details["epoch"]` for 409 `EPOCH_CHANGED`; `conflict` for 409 `CONFLICT`.
        """

    async def claim(self, group: str, devices: Sequence[Wanted]) -> list[KeyBundle]:
        """Claim a bundle of each device."""

    async def put_keys(self, keys: PublishedKeys) -> int:
        """Offer keys in the directory, and return the device's number."""

    async def devices(self, group: str) -> list[DirectoryDevice]:
        """List the devices of a group's members."""

    async def catch_up(self, group: str, seq: int) -> None:
        """Return when every event up to `seq` was given to `Member.receive`."""


class Way(msgspec.Struct, frozen=True, kw_only=True):
    """From one device to another; `identity` is the other device's, as the roster has it."""

    group: str
    sender: DeviceAddress
    to: DeviceAddress
    identity: bytes


class OpenedDelivery(msgspec.Struct, frozen=True):
    """An opened delivery; `proof` is the Signed of one by suite 16, and `proof_key_id` its pre-key."""

    pairwise: bytes
    proof: bytes | None = None
    proof_key_id: int | None = None


class Ratchet(Protocol):
    """
    The cryptographic state of a device.

    Every method reads and writes through the unit of work alone, so that ratchet, item and position are one
    transaction. Methods are called one at a time.
    """

    @property
    def suites(self) -> int:
        """A bit mask of SuiteBits."""

    def identity(self, unit: Unit) -> Signer:
        """Return the device's identity, made on the first call."""

    def new_chain(self, unit: Unit, distribution: bytes) -> None:
        """Make a chain of the device's own."""

    def skdm(self, unit: Unit, distribution: bytes) -> bytes:
        """Give an own chain from its present iteration on."""

    def encrypt(self, unit: Unit, distribution: bytes, plain: bytes) -> bytes:
        """Return a SenderKeyMessage."""

    def forget(self, unit: Unit, distribution: bytes) -> None:
        """Delete an own chain."""

    def learn(self, unit: Unit, sender: DeviceAddress, skdm: bytes) -> None:
        """Keep a chain of another device; a known one stays as it is."""

    def decrypt(self, unit: Unit, sender: DeviceAddress, message: SenderKeyMessage) -> bytes:
        """
        Decrypt a message of another device.

        Raises:
            E2eeError: `repeated`, `bad_signature`, `too_far_ahead`, `cannot_open`, `unknown_chain`.
        """

    def publish(self, unit: Unit, device: int, now_ms: int, wanted: int) -> PublishedKeys:
        """Make `wanted` new one-time keys, and what offers them; the last resort is renewed when it is due."""

    def claim_suite(self, unit: Unit, to: DeviceAddress, suites: int) -> int | None:
        """Return the suite to claim keys of; None when a session is there."""

    def renew_session(self, unit: Unit, to: DeviceAddress) -> None:
        """Begin a new session with the next delivery to this device: it could not read the last one."""

    def seal(self, unit: Unit, way: Way, bundle: KeyBundle | None, pairwise: bytes) -> KeyDelivery:
        """
        Seal a pairwise message.

        Raises:
            E2eeError: `bad_signature`, `bad_key` when the bundle is not signed by `way.identity`, `not_found` without
                one.
        """

    def open(self, unit: Unit, way: Way, delivery: KeyDelivery) -> OpenedDelivery:
        """
        Open a delivery.

        Raises:
            E2eeError: `cannot_open`, `malformed`, `bad_signature`, `unsupported`, and `bad_key` when it is of another
                identity than `way.identity`.
        """
