"""A RabbitMQ cluster of three nodes on loopback, whose queues are quorum queues."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from tests.servers import RabbitmqServer

#: A virtual host in which queues that are declared without a type are quorum queues.
VIRTUAL_HOST = "replicated"
#: What `docs/rabbitmq.md` says to set for it.
POLICY = {
    "delivery-limit": 1000,
    "dead-letter-strategy": "at-least-once",
    "overflow": "reject-publish",
}
#: Waits for all nodes first: a quorum queue has as many members as there are when it is declared.
PREPARE = """
ok = rabbit_nodes:await_running_count(3, 30000),
Host = <<"%s">>, Who = <<"tests">>,
rabbit_vhost:add(Host, #{default_queue_type => <<"quorum">>}, Who),
rabbit_auth_backend_internal:set_permissions(<<"guest">>, Host, <<".*">>, <<".*">>, <<".*">>, Who),
rabbit_policy:parse_set(Host, <<"all">>, <<".*">>, <<"%s">>, <<"0">>, <<"queues">>, Who).
"""


class RabbitmqCluster:
    """Three nodes, which find one another when they start.

    Args:
        directory: A folder for all their data.
    """

    def __init__(self, directory):
        first = RabbitmqServer(directory / "0")
        others = [RabbitmqServer(directory / str(n), epmd=first.epmd) for n in (1, 2)]
        self.nodes = [first, *others]
        for node in self.nodes:
            node.options |= {
                "cluster_partition_handling": "pause_minority",
                "cluster_formation.peer_discovery_backend": "classic_config",
                **{
                    f"cluster_formation.classic_config.nodes.{number}": each.node_name
                    for number, each in enumerate(self.nodes, 1)
                },
            }

    def start(self):
        self.nodes[0].epmd.start()
        with ThreadPoolExecutor(len(self.nodes)) as pool:
            list(pool.map(lambda node: node.start(), self.nodes))
        # All by one call: each takes seconds.
        policy = json.dumps(POLICY).replace('"', '\\"')
        self.nodes[0].run("rabbitmqctl", "eval", PREPARE % (VIRTUAL_HOST, policy))
        return self

    @property
    def urls(self):
        """All nodes in each of three orders, as a broker takes them."""
        urls = [f"amqp://guest:guest@127.0.0.1:{node.port}/{VIRTUAL_HOST}" for node in self.nodes]
        return [";".join(urls[n:] + urls[:n]) for n in range(len(urls))]

    @property
    def url(self):
        """All nodes, in their order."""
        return self.urls[0]

    def close(self):
        with ExitStack() as stack:
            stack.callback(self.nodes[0].epmd.kill)
            for node in self.nodes:
                stack.callback(node.kill)
