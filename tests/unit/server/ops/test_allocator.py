"""The allocator's bounds, in a process of their own: what is set holds until a process ends."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PEAK = """
import concurrent.futures, sys
from argon2.low_level import Type, hash_secret_raw
from orbital_relay.server.ops.allocator import bound_allocator

def resident_kb():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))

def hashed(_):
    sizes = dict(time_cost=1, memory_cost=19456, parallelism=1, hash_len=32)
    return hash_secret_raw(b"password", b"salt" * 4, **sizes, type=Type.ID)

assert bound_allocator()
with concurrent.futures.ThreadPoolExecutor(4) as pool:
    before = resident_kb()
    # What each thread needs for itself is there after the first round.
    list(pool.map(hashed, range(16)))
    print(resident_kb() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only the GNU C library keeps freed blocks for itself")
def test_a_peak_leaves_nothing_behind():
    """[ALLOC1] After sixteen password hashes, four at a time, a process holds less than one of them needed (19 MiB)."""
    done = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True)

    assert int(done.stdout) < 19_456 / 2
