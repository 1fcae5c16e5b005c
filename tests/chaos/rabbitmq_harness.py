"""Sites whose store is a RabbitMQ server or a cluster of them."""

from __future__ import annotations

from itertools import cycle, pairwise

from tests.chaos.harness import Site
from tests.rabbitmq import QuickBroker, delete_queues


class RabbitmqSite(Site):
    """A site on a RabbitMQ server."""

    def __init__(self, directory, server, url=None):
        super().__init__(directory)
        self.database = url or server.url
        self.observer = QuickBroker(url=server.url)
        self.observer.declare_queue("default", ensure=True)

    def clean_up(self):
        super().clean_up()
        delete_queues(self.observer)
        self.observer.close()

    def counts(self):
        """Return how many messages are ready, delayed, held and dead; held ones are not told."""
        ready, delayed, dead = self.observer.topology.count_queue("default")
        return [ready, delayed, 0, dead]

    def finish(self):
        """Wait until all that was sent has ended."""
        self.wait_until(lambda: not self.lost(), "all that was accepted has ended", 60)
        self.wait_until_drained(60)

    def wait_for_work(self, after_ns, timeout_s=30):
        """Wait until something starts after a moment; return how many seconds after it."""

        def starts():
            entries = self.ledger.entries()
            return [e.at_ns for e in entries if e.kind == "start" and e.at_ns > after_ns]

        self.wait_until(starts, "work goes on", timeout_s)
        return (min(starts()) - after_ns) / 1e9

    def lost(self):
        """Return what was accepted by the producers' account and has not ended."""
        return set(self.ledger.numbers("sent")) - set(self.ledger.numbers("end"))


def figures_of(site, **more):
    return {
        "sent": site.ledger.count("sent"),
        "unknown": site.ledger.count("unknown"),
        "lost": len(site.lost()),
        "duplicates": len(site.ledger.duplicates()),
        **more,
    }


class ClusterSite(RabbitmqSite):
    """A site on a cluster; each program begins with another node and knows them all."""

    def __init__(self, directory, cluster):
        self._urls = cycle(cluster.urls)
        super().__init__(directory, cluster, next(self._urls))

    def clean_up(self):
        Site.clean_up(self)  # the queues go with the cluster
        self.observer.close()

    def start(self, *arguments, **options):
        self.database = next(self._urls)
        return super().start(*arguments, **options)

    def longest_silence_s(self):
        """Return the longest time in which nothing ended, from the first end to the last."""
        ends = sorted(entry.at_ns for entry in self.ledger.entries() if entry.kind == "end")
        return max(later - earlier for earlier, later in pairwise(ends)) / 1e9
