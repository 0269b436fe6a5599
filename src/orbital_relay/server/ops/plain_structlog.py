"""
structlog without rich.

structlog imports rich where it finds it, for tracebacks with local variables. Ours have none, since a variable may hold
a secret. Without rich, Pygments and an HTTP client a server at rest holds 71 MB, with them 76.
"""

from __future__ import annotations

import sys

_MASKED = "rich" not in sys.modules
if _MASKED:
    # An entry of None makes the import fail, as if rich was not installed.
    sys.modules["rich"] = None  # type: ignore[assignment]  # documented: docs.python.org/3/reference/import.html
try:
    import structlog
finally:
    if _MASKED:
        del sys.modules["rich"]

__all__ = ["structlog"]
