from __future__ import annotations

import pytest

from tests.chaos.harness import open_site


@pytest.fixture
def site(tmp_path):
    with open_site(tmp_path) as site:
        yield site
