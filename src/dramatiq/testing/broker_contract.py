"""What every broker must do, as tests that any broker can inherit.

    from dramatiq.testing.broker_contract import BrokerContract

    class TestMyBroker(BrokerContract):
        keeps_delays = True

        @pytest.fixture
        def broker(self):
            broker = MyBroker()
            broker.flush_all()
            yield broker
            broker.close()

What a broker cannot do is declared on the class, see `BrokerSuite`; the tests never ask for its
type. ``dead_payloads`` and ``store_raw`` let them look inside and put malformed messages in.
"""

from __future__ import annotations

from .broker_consuming import ConsumingTests
from .broker_dead_letters import DeadLetterTests
from .broker_delays import DelayTests
from .broker_failing import FailingTests
from .broker_hooks import HookTests
from .broker_inspection import InspectionTests
from .broker_running import RunningTests
from .broker_sending import SendingTests
from .broker_settling import SettlingTests

__all__ = ["BrokerContract"]


class BrokerContract(
    SendingTests,
    ConsumingTests,
    SettlingTests,
    DelayTests,
    RunningTests,
    FailingTests,
    HookTests,
    InspectionTests,
    DeadLetterTests,
):
    """Tests of a broker. Subclasses supply the fixture ``broker`` and declare its abilities."""
