"""What the use cases work with."""

from __future__ import annotations

import pytest

from tests.unit.services.desk import Desk


def test_a_service_context_is_immutable():
    """[USE1] The context that the composition root builds is immutable."""
    context = Desk().context

    with pytest.raises(AttributeError):
        context.envelope_bytes = 1  # type: ignore[misc]
