"""Sites whose store is a schema on a PostgreSQL server, and what must hold there in every state."""

from __future__ import annotations

from psycopg import sql

from tests.chaos.harness import Site

#: What must hold in every state of the store: each query finds what breaks it.
INVARIANTS = {
    "a message is in exactly one known state": (
        "SELECT did FROM messages WHERE state NOT IN (0, 1, 2) "
        "UNION ALL SELECT did FROM messages JOIN dead USING (did)"
    ),
    "a payload is there": (
        "SELECT did FROM messages WHERE length(payload) = 0 "
        "UNION ALL SELECT did FROM dead WHERE length(payload) = 0"
    ),
    "exactly the leased have an owner": (
        "SELECT did FROM messages WHERE (state = 2) <> (owner IS NOT NULL)"
    ),
    "every owner is registered": (
        "SELECT did FROM messages WHERE state = 2 AND owner NOT IN (SELECT id FROM workers)"
    ),
}


class PostgresSite(Site):
    """A site on a PostgreSQL server.

    Args:
        directory: For the ledger and what programs print.
        server: The server.
        schema: The schema of its broker; dropped in the end.
    """

    def __init__(self, directory, server, schema):
        super().__init__(directory)
        self.server = server
        self.database = server.url
        self.schema = schema
        self.broker_options = {"schema": schema}

    def clean_up(self):
        super().clean_up()
        self.query(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(self.schema)))

    def query(self, statement, *arguments):
        with self.server.connect() as connection:
            connection.execute(sql.SQL("SET search_path TO {}").format(sql.Identifier(self.schema)))
            cursor = connection.execute(statement, arguments or None)
            return cursor.fetchall() if cursor.description else []

    def counts(self):
        """Return how many messages are ready, delayed, leased and dead."""
        found = dict(
            self.query(
                "SELECT state, count(*) FROM messages GROUP BY state "
                "UNION ALL SELECT 3, count(*) FROM dead"
            )
        )
        return [found.get(state, 0) for state in range(4)]

    def check_store(self):
        """Check that every invariant holds."""
        broken = {name: rows for name, query in INVARIANTS.items() if (rows := self.query(query))}
        assert not broken, broken
