"""Callers for the fault tests: one era is enough, as the protocol has no part in them."""

import pytest


@pytest.fixture
def era() -> str:
    return "modern"
