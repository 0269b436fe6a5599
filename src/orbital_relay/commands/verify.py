"""`orbital verify`: verify an audit file that a client of an encrypted group exported, without the server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from orbital_relay.commands.terminal import say

if TYPE_CHECKING:
    from orbital_relay.e2ee.audit_check import AuditReport


@click.command(
    epilog="""\b
Examples:
  orbital verify family.audit
  ORBITAL_INVITE=… orbital verify family.audit
"""
)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--invite",
    envvar="ORBITAL_INVITE",
    show_envvar=True,
    metavar="TEXT",
    help="The part of an invite link after the #, to verify joins too.",
)
@click.option(
    "--secret-number", type=click.IntRange(0), default=0, show_default=True, help="Number of the secret in the link."
)
def verify(*, file: Path, invite: str | None, secret_number: int) -> None:
    """
    Verify an audit file of an encrypted group, without the server.

    A device exports what it received (frames, hashes and records) and signs it. The command verifies this signature,
    the hash chain of the frames without gaps, that the frames match the hashes that the device stored on arrival,
    the signature of every record of the roster, and that the members whose messages the device read saw the same
    history.

    The exit status is 1 if a check fails. Warnings of the device itself are only shown: they cannot be verified without
    its keys.
    """
    report = _checked(file, invite, secret_number)
    say(f"group      {report.group}")
    say(f"device     {report.device} of {report.user}")
    say(f"events     {report.first} to {report.last}")
    say(f"records    {report.records}")
    say(f"heads      {report.heads} compared")
    if report.vouched:
        say(f"joinings   {report.vouched} taken on the device's word; --invite verifies them")
    for warned in report.warnings:
        say(f"warning    {warned.code} at {warned.seq}, {warned.device} of {warned.user or 'the server'}")
    for finding in report.findings:
        say(f"finding    {finding.code}: {finding.text}")
    if report.findings:
        raise click.ClickException(f"{len(report.findings)} findings: the file or the history in it is not valid.")
    say("The file is whole, and shows one history.")


def _checked(file: Path, invite: str | None, secret_number: int) -> AuditReport:
    try:
        # The extra may be missing, also where `--help` is asked for.
        from orbital_relay.e2ee.audit_check import check_audit  # noqa: PLC0415
        from orbital_relay.e2ee.errors import E2eeError  # noqa: PLC0415
        from orbital_relay.e2ee.invite import read_invite  # noqa: PLC0415
    except ModuleNotFoundError as exc:
        raise click.ClickException(
            f"This needs the extra e2ee, and {exc.name} is not installed: pip install 'orbital-relay[e2ee]'"
        ) from exc
    read = None
    if invite is not None:
        read = read_invite(invite.rpartition("#")[2])
        if read is None:
            raise click.UsageError("--invite must be the 43 letters after the # of an invite link.")
    try:
        return check_audit(file.read_bytes(), secret=None if read is None else (secret_number, read.secret))
    except E2eeError as exc:
        raise click.ClickException(f"{file}: {exc}") from exc
