"""RabbitMQ over TLS, on a node with a certificate that it has signed itself."""

from __future__ import annotations

import subprocess
from contextlib import closing

import pytest

from dramatiq.errors import ConnectionFailed
from dramatiq.message import Message
from tests.rabbitmq import QuickBroker
from tests.servers import RabbitmqServer, free_port


@pytest.fixture
def server(tmp_path):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
            *("-keyout", key, "-out", certificate),
        ],
        check=True,
        capture_output=True,
    )
    server = RabbitmqServer(tmp_path / "server")
    server.tls_port, server.certificate = free_port(), certificate
    server.options |= {
        "listeners.ssl.1": f"127.0.0.1:{server.tls_port}",
        "ssl_options.certfile": str(certificate),
        "ssl_options.keyfile": str(key),
    }
    try:
        yield server.start()
    finally:
        server.close()


def test_messages_of_any_length_go_over_tls_and_an_unknown_certificate_is_refused(server):
    url = f"amqps://guest:guest@localhost:{server.tls_port}/%2F"
    trusted = f"{url}?ssl_options=%7B%27cafile%27%3A%27{server.certificate}%27%7D"
    sent = [Message("default", "work", ("x" * length,), {}, {}) for length in (1, 300_000)]

    with (
        pytest.raises(ConnectionFailed, match="certificate"),
        closing(QuickBroker(url=url)) as broker,
    ):
        broker.enqueue(sent[0])
    with closing(QuickBroker(url=trusted)) as broker:
        broker.enqueue_many(sent)

        with closing(broker.consume("default", prefetch=2)) as consumer:
            found = consumer.fetch(1, 5000) + consumer.fetch(1, 5000)
            assert [each.args for each in found] == [each.args for each in sent]
