"""What the server reports to a client without a token."""

from __future__ import annotations

from typing import Final

from orbital_relay import __version__
from orbital_relay.api.about import About, AboutLimits, SignupPolicy
from orbital_relay.server.http.endpoint import Answer, Call, Reply, endpoint

_PASSED_ON: Final = (b"x-forwarded-for", b"forwarded", b"x-forwarded-host", b"x-real-ip", b"via")
"""Headers of which a proxy writes at least one (RFC 7239; RFC 9110 §7.6.3)."""


def signup_policy(call: Call) -> SignupPolicy:
    """Return who may make an account by this request."""
    forwarded = any(name in _PASSED_ON for name, _ in call.scope["headers"])
    return call.server.settings.signup_policy(forwarded=forwarded)


@endpoint("GET", "/api/about", tag="Accounts", answers=[Answer(200, "What this server is.", About)], auth=False)
async def about(call: Call) -> Reply:
    """Get the server's name, version and limits, and whether signing up requires an invitation."""
    settings = call.server.settings
    return Reply.json(
        About(
            name=settings.name,
            version=__version__,
            signups=signup_policy(call),
            public_url=settings.public_url,
            limits=AboutLimits(
                envelope_bytes=settings.envelope_bytes,
                media_chunk_bytes=settings.media_chunk_bytes,
                media_file_bytes=settings.media_file_bytes,
                media_group_bytes=settings.media_group_bytes,
                media_group_files=settings.media_group_files,
                retention_days=settings.retention_days,
                media_days=settings.media_days,
            ),
        )
    )


ENDPOINTS: Final = (about,)
