"""The relay: append, fan-out, subscribe, gap repair, catch-up. Only it waits for both store and bus."""

from __future__ import annotations

from orbital_relay.relay.counters import Counters
from orbital_relay.relay.relay import Relay
from orbital_relay.relay.subscribing import Granted

__all__ = ["Counters", "Granted", "Relay"]
