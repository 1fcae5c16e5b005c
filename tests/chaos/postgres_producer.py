"""A process that writes orders and sends a message about each in one transaction; half are undone.

Run as ``python postgres_producer.py URL SCHEMA SEED``; it goes on until it is killed.
"""

from __future__ import annotations

import random
import sys

import psycopg
from psycopg import sql

from dramatiq import Message
from dramatiq.brokers.postgres import PostgresBroker


def main(url, schema, seed):
    chance = random.Random(seed)
    broker = PostgresBroker(url, schema=schema)
    order = sql.SQL("INSERT INTO {}.orders DEFAULT VALUES RETURNING number").format(
        sql.Identifier(schema)
    )
    with psycopg.connect(url) as connection:
        while True:
            [(number,)] = connection.execute(order).fetchall()
            with broker.transaction(connection):
                broker.enqueue(Message("default", "work", (number,), {}, {}))
            if chance.random() < 0.5:
                connection.commit()
            else:
                connection.rollback()


if __name__ == "__main__":
    main(*sys.argv[1:])
