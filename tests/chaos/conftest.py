from __future__ import annotations

import pytest

from tests.chaos.harness import open_site
from tests.conftest import CHAOS_SEED


@pytest.fixture(autouse=True)
def _show_seed_on_failure(request):
    request.node.add_report_section("setup", "chaos seed", CHAOS_SEED)


@pytest.fixture
def site(tmp_path):
    with open_site(tmp_path) as site:
        yield site
