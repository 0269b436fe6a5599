"""The C library's allocator: return freed memory to the system."""

from __future__ import annotations

import ctypes
import platform
from typing import Final

MAPPED_BYTES: Final = 1024 * 1024
"""From this size on an allocation is a mapping of its own, which goes back to the system when it is freed."""
KEPT_BYTES: Final = 4 * 1024 * 1024
"""Free memory at the end of the heap that is kept for what comes next."""
ARENAS: Final = 2
"""Heaps: more would only help threads that allocate at the same time, and here one lock runs them one by one."""

# <malloc.h> of the GNU C library, mallopt(3).
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8


def bound_allocator() -> bool:
    """
    Keep the process small after a peak, where the C library is GNU's; others do so by themselves or cannot be asked.

    By default that library learns from the first large block that is freed to take such blocks from the heap, and keeps
    them: sixteen people who sign up at once left 40 MB behind, permanently, on a machine that may have 128.

    Returns:
        Whether there was something to set.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all(
        [
            mallopt(_M_MMAP_THRESHOLD, MAPPED_BYTES),
            mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES),
            mallopt(_M_ARENA_MAX, ARENAS),
        ]
    )
