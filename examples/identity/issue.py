"""
Issue a token as an outside identity provider does: signed with its private key, RS256.

    .venv/bin/python examples/identity/issue.py provider.pem USER_ID NAME
"""

import sys
import time
from pathlib import Path

import jwt


def issue(private_key: str, user_id: str, username: str, *, lifetime_s: int = 3600) -> str:
    """Return a token for a user whom only the provider needs to know."""
    now_s = int(time.time())
    claims = {"userId": user_id, "username": username, "iat": now_s, "exp": now_s + lifetime_s}
    return jwt.encode(claims, private_key, algorithm="RS256")


if __name__ == "__main__":
    path, user_id, username = sys.argv[1:]
    print(issue(Path(path).read_text("utf-8"), user_id, username))
