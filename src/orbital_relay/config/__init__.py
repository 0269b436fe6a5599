"""
Settings: the table, how it is read from environment, files and flags, and what is written of it.

Nothing else in the house reads the environment. The command line makes its flags from `OPTIONS`.
"""

from __future__ import annotations

from orbital_relay.config.database import Database, Postgres, SqliteFile, without_credentials
from orbital_relay.config.files import make_data_dir, read_jwt_public_key, read_jwt_secret
from orbital_relay.config.kinds import Network
from orbital_relay.config.loading import doubts, load
from orbital_relay.config.settings import OPTIONS, Option, Settings, options

__all__ = [
    "OPTIONS",
    "Database",
    "Network",
    "Option",
    "Postgres",
    "Settings",
    "SqliteFile",
    "doubts",
    "load",
    "make_data_dir",
    "options",
    "read_jwt_public_key",
    "read_jwt_secret",
    "without_credentials",
]
