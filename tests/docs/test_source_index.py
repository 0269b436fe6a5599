"""The index of the source: what a reader looks for stands in it, with the file where it is."""

from __future__ import annotations

import pytest

from tests.docs import source_index
from tests.support.programs import CHECKOUT

ROWS = (
    ("`MAX_FRAME_BYTES`", "server/sessions/greeting.py"),
    ("`MIN_DEFLATED_BYTES`", "server/edge/deflate.py"),
    ("`TYPING_S`", "core/session.py"),
    ("`KEEP_S`", "server/push/messages.py"),
    ("`MAX_UNSENT`", "clients/javascript/src/manager.js"),
    ("`POST /v1/messages`", "server/http/routes/messages.py"),
    ("You are not a member of this group.", "core/refusals.py"),
    ("`login_limit`", "server/limits/policy.py"),
    ("`core/fan_out.py`", "Fan-out"),
    ("`web/js/views/thread-list.js`", "thread list"),
)


@pytest.mark.parametrize(("wanted", "place"), ROWS)
def test_the_index_leads_to_the_file(wanted: str, place: str):
    """[INDEX1] A constant, an endpoint, an error text, a setting and a file have a row with the place in the source."""
    rows = (CHECKOUT / source_index.PAGE).read_text("utf-8").splitlines()

    assert [row for row in rows if wanted in row and place in row] != []


def test_every_file_and_setting_has_a_row():
    """[INDEX2] Each source file with a head, and each setting that is read, has a row."""
    page = (CHECKOUT / source_index.PAGE).read_text("utf-8")

    assert [name for name, _ in source_index.files() if f"| {name} |" not in page] == []
    assert [name for name, *_ in source_index.settings() if f"| {name} |" not in page] == []
    assert len(source_index.files()) > 400
    assert len(source_index.constants()) > 500
    assert len(source_index.errors()) > 100
