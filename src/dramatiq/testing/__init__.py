"""Tests that any broker, result backend or rate limiter backend must pass, and helpers for tests.

Inherit a contract in a test module, supply its fixture, and pytest runs it:

* `dramatiq.testing.broker_contract.BrokerContract`
* `dramatiq.testing.result_contract.ResultBackendContract`
* `dramatiq.testing.rate_limiter_contract.RateLimiterBackendContract`
* `dramatiq.testing.history_contract.HistoryStoreContract`
* `dramatiq.testing.waiting`: wait for a condition, start threads together
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

with suppress(ImportError):  # the helpers need no pytest
    import pytest

    # Failed assertions in the contracts are explained like those of a test module.
    pytest.register_assert_rewrite(
        *(
            f"{__name__}.{path.stem}"
            for path in Path(__file__).parent.glob("*.py")
            if path.stem != "__init__"
        )
    )
