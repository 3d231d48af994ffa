"""A client of a server that generates with the built-in engine."""

import pytest

from tests.conftest import Caller


@pytest.fixture(params=["modern"])
def era(request: pytest.FixtureRequest) -> str:
    """One era: what is looked at here is the engine."""
    return str(request.param)


@pytest.fixture
async def icons(connect) -> Caller:
    """A connected client of the built-in engine."""
    return await connect(IMAGE_GEN_ENGINE="builtin")
