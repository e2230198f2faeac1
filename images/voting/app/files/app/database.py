"""How worker and result find the database.

In: where it is (DB_HOST) and the file with its password (DB_PASSWORD_FILE). Out: connections.
"""

import os

import psycopg2

TABLE = "CREATE TABLE IF NOT EXISTS votes (voter text PRIMARY KEY, choice text NOT NULL)"


def connect():
    """A new connection. One whose other end is gone without a word fails after ten seconds."""
    with open(os.environ.get("DB_PASSWORD_FILE", "/run/secrets/db-password")) as file:
        password = file.read().strip()
    return psycopg2.connect(
        host=os.environ.get("DB_HOST", "db"),
        user="postgres",
        dbname="postgres",
        password=password,
        connect_timeout=5,
        keepalives_idle=5,
        tcp_user_timeout=10_000,
    )
