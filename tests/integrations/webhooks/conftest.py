"""The sender of the tests."""

import pytest
from tests.integrations.webhooks.sending import World


@pytest.fixture
def world() -> World:
    return World()
