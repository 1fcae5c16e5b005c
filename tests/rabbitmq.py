"""Looking at a RabbitMQ server with the client library alone, beside the broker under test."""

from __future__ import annotations

from contextlib import closing

import pika

from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.brokers.rabbitmq.topology import waiting_names


class QuickBroker(RabbitmqBroker):
    """A broker whose only workers are in this process, which it can ask: joining takes less."""

    def join(self, queue_name, min_successes=3, idle_time=15, *, timeout=None):
        super().join(queue_name, min_successes, idle_time, timeout=timeout)


def connect(broker):
    parameters = broker.parameters
    return closing(pika.BlockingConnection(parameters))


def names_of(queue_name):
    return [queue_name, f"{queue_name}.DQ", f"{queue_name}.XQ", *waiting_names(queue_name)]


def delete_queues(broker):
    with connect(broker) as connection:
        channel = connection.channel()
        for queue_name in broker.queues:
            for name in names_of(queue_name):
                channel.queue_delete(name)


def read_all(broker, queue_name):
    """Return what is ready in a queue, as (body, properties), and leave it there."""
    found = []
    with connect(broker) as connection:
        channel = connection.channel()
        while True:
            method, properties, body = channel.basic_get(queue_name)
            if method is None:
                break
            found.append((body, properties))
        channel.close()
    return found


def publish_raw(broker, queue_name, payload, **properties):
    with connect(broker) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        properties = pika.BasicProperties(**{"delivery_mode": 2, **properties})
        channel.basic_publish("", queue_name, payload, properties, mandatory=True)
