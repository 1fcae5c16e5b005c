"""Both fleets: the published Dramatiq 2.x, in an environment of its own, and this library."""

from __future__ import annotations

import itertools
import os

import pytest

from tests.interop.harness import FLEETS, OLD_PYTHON, Consoles, RabbitmqSite, Site

#: Programs: they are run, not collected.
collect_ignore = ["programs"]

COUNTER = itertools.count()


@pytest.fixture(scope="session")
def consoles(tmp_path_factory):
    if not OLD_PYTHON.exists():
        reason = f"no {OLD_PYTHON} with the published Dramatiq: `make pytest` makes it"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    consoles = Consoles(tmp_path_factory.mktemp("consoles"))
    yield consoles
    consoles.close()


@pytest.fixture
def make_site(tmp_path, redis_server, consoles):
    """Make sites: namespaces that no other test uses."""
    sites = []

    def make(server=redis_server, **settings):
        namespace = f"interop-{next(COUNTER)}"
        sites.append(Site(tmp_path, server, namespace, consoles, **settings))
        return sites[-1]

    yield make
    for site in sites:
        site.close()


@pytest.fixture
def make_rabbitmq_site(tmp_path, rabbitmq_server, consoles):
    """Make sites: queues that no other test uses."""
    sites = []

    def make(**settings):
        queue_name = f"interop-{next(COUNTER)}"
        sites.append(RabbitmqSite(tmp_path, rabbitmq_server, queue_name, consoles, **settings))
        return sites[-1]

    yield make
    for site in sites:
        site.close()


@pytest.fixture
def site(make_site):
    return make_site()


@pytest.fixture(params=FLEETS)
def fleet(request):
    return request.param


@pytest.fixture(params=[FLEETS, FLEETS[::-1]], ids=["ours to 2.2.1", "2.2.1 to ours"])
def direction(request):
    """Who does the first half and who the second."""
    return request.param
