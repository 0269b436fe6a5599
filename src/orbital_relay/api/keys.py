"""Devices, the public keys that they offer, and claims of them."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from orbital_relay.api.fields import Encrypted, HasMore, IfEpoch, ResponseBody, Uuid

DeviceId = Annotated[int, msgspec.Meta(ge=1, le=127, description="The device's number within its user.", examples=[1])]
KeyId = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1, description="The device's number for the key.")]
Base64 = Annotated[
    str,
    msgspec.Meta(description="Base64.", examples=["bm90IGEgc2VjcmV0"], extra_json_schema={"contentEncoding": "base64"}),
]


class PreKey(msgspec.Struct, frozen=True):
    """A public key without a signature."""

    id: KeyId
    key: Base64


class SignedPreKey(msgspec.Struct, frozen=True):
    """A public key with a signature by the device's identity key, which the server does not verify."""

    id: KeyId
    key: Base64
    signature: Base64


class KeysBody(msgspec.Struct):
    """What a device publishes: keys replace the previous ones, lists add to the stocks."""

    identity_key: Annotated[Base64, msgspec.Meta(description="33 bytes, the first 0x05.")]
    suites: Annotated[int, msgspec.Meta(ge=1, le=255, description="Bit mask: 1 libsignal, 2 HPKE with X-Wing.")]
    device_id: Annotated[
        DeviceId | None,
        msgspec.Meta(description="Left out: the user's device with this identity key, or the lowest free number."),
    ] = None
    registration_id: Annotated[
        Annotated[int, msgspec.Meta(ge=1, le=16_380)] | None, msgspec.Meta(description="Suite 1 only.")
    ] = None
    signed_pre_key: Annotated[SignedPreKey | None, msgspec.Meta(description="33 bytes; suite 1 only.")] = None
    kyber_pre_key: Annotated[
        SignedPreKey | None, msgspec.Meta(description="1,569 bytes, the first 0x08; suite 1's last resort.")
    ] = None
    pre_keys: Annotated[list[PreKey], msgspec.Meta(max_length=100, description="33 bytes each; suite 1 only.")] = (
        msgspec.field(default_factory=list)
    )
    kyber_pre_keys: Annotated[
        list[SignedPreKey], msgspec.Meta(max_length=50, description="1,569 bytes each; suite 1 only.")
    ] = msgspec.field(default_factory=list)
    hpke_pre_key: Annotated[
        SignedPreKey | None,
        msgspec.Meta(description="1,216 bytes: the last resort, which a new device and a new identity key need."),
    ] = None
    hpke_pre_keys: Annotated[list[SignedPreKey], msgspec.Meta(max_length=50, description="1,216 bytes each.")] = (
        msgspec.field(default_factory=list)
    )


class KeyCounts(ResponseBody, frozen=True, kw_only=True):
    """How many one-time keys of each kind a device offers."""

    pre_keys: int = 0
    kyber_pre_keys: int = 0
    hpke_pre_keys: int = 0


class KeysStored(ResponseBody, frozen=True, kw_only=True):
    """The device is in the directory."""

    device_id: int
    counts: KeyCounts


class OwnKeys(KeyCounts, frozen=True, kw_only=True):
    """A device of the caller, and how many one-time keys of each kind it offers."""

    device_id: int


class OwnDevices(ResponseBody, frozen=True, kw_only=True):
    """The caller's devices."""

    devices: list[OwnKeys]


class Device(ResponseBody, frozen=True, kw_only=True):
    """A device of a member."""

    user_id: str
    device_id: int
    identity_key: Base64
    suites: int
    seen_at: Annotated[str, msgspec.Meta(description="When it last published keys, RFC 3339.")]


class Devices(ResponseBody, frozen=True, kw_only=True):
    """A page of the devices of a group's members, in the order in which they were added."""

    devices: list[Device]
    has_more: HasMore = False


class WantedDevice(msgspec.Struct, frozen=True):
    """A device to send keys to."""

    user_id: Annotated[
        str, msgspec.Meta(min_length=1, max_length=64, examples=["6f1f7c0e-7d0b-4d52-9a53-3f6f2b1c8a11"])
    ]
    device_id: DeviceId
    suite: Annotated[Literal[1, 16], msgspec.Meta(description="1 libsignal, 16 HPKE with X-Wing.")]


class ClaimBody(msgspec.Struct):
    """The devices of a group to which the caller wants to send keys."""

    group_id: Uuid
    devices: Annotated[
        list[WantedDevice],
        msgspec.Meta(
            min_length=1,
            max_length=200,
            examples=[[{"user_id": "6f1f7c0e-7d0b-4d52-9a53-3f6f2b1c8a11", "device_id": 1, "suite": 16}]],
        ),
    ]


class Bundle(ResponseBody, frozen=True, kw_only=True):
    """The keys of one device; keys that its suite does not use are null."""

    user_id: str
    device_id: int
    suite: int
    identity_key: Base64
    last_resort: Annotated[
        bool, msgspec.Meta(description="Whether `kyber_pre_key` or `hpke_pre_key` is the last resort.")
    ]
    registration_id: int | None = None
    pre_key: Annotated[PreKey | None, msgspec.Meta(description="null when the stock is empty.")] = None
    signed_pre_key: SignedPreKey | None = None
    kyber_pre_key: SignedPreKey | None = None
    hpke_pre_key: SignedPreKey | None = None


class Bundles(ResponseBody, frozen=True, kw_only=True):
    """A bundle for each requested device that is in the group and has the suite, in the order of the request."""

    bundles: list[Bundle]


class KeyMessageBody(msgspec.Struct):
    """An envelope with keys for devices of a group."""

    group_id: Uuid
    encrypted_envelope: Encrypted
    if_epoch: IfEpoch = None


class KeysPosted(ResponseBody, frozen=True, kw_only=True):
    """The envelope is durable; `seq` is its number in the group."""

    keys_id: str
    server_timestamp: int
    seq: int


class RecordBody(msgspec.Struct):
    """A signed record of a group's roster."""

    record: Annotated[Base64, msgspec.Meta(description="Base64 of 1 to 4,096 bytes.")]
    if_epoch: IfEpoch = None


class RecordCreated(ResponseBody, frozen=True, kw_only=True):
    """The record is durable; `seq` is its number in the group, and the group's epoch."""

    record_id: str
    group_id: str
    created_at: str
    seq: int


class RosterRecord(ResponseBody, frozen=True, kw_only=True):
    """A record of a group's roster."""

    record_id: str
    group_id: str
    author_id: str
    record: Base64
    created_at: str
    seq: int


class RosterRecords(ResponseBody, frozen=True, kw_only=True):
    """A page of the records of a group, in the order of the log."""

    records: list[RosterRecord]
    has_more: HasMore = False


class Mailbox(ResponseBody, frozen=True, kw_only=True):
    """A mailbox for linking a device; its name is the only credential."""

    mailbox: str
    expires_at: str


class MailBody(msgspec.Struct):
    """What a linked device sends to a new one."""

    encrypted_message: Annotated[Encrypted, msgspec.Meta(description="Base64 of 1 to 65,536 bytes.")]


class Mail(ResponseBody, frozen=True, kw_only=True):
    """The message of the mailbox."""

    encrypted_message: str
