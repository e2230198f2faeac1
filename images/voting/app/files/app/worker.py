"""The worker: takes votes from the queue and writes them into the database.

In: the list `votes` of the queue (QUEUE_HOST). Out: one row a voter in the table `votes`. While a vote is
written it is in the list `votes:taken`: one that a crash left there is written at the next start, and
written twice it counts once. There is one worker.
"""

import json
import os
import signal
import sys
import time

import psycopg2
import redis

import database

PAUSE_S = 1
WAIT_S = 5


def write(connection, vote):
    """One vote: the last one of a voter counts."""
    try:
        vote = json.loads(vote)
        values = (vote["voter"], vote["choice"])
    except (ValueError, KeyError, TypeError):
        print("left out what is no vote:", vote)
        return
    with connection, connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO votes (voter, choice) VALUES (%s, %s)"
            " ON CONFLICT (voter) DO UPDATE SET choice = excluded.choice",
            values,
        )


def work():
    """Works until the queue or the database is lost."""
    queue = redis.Redis(
        os.environ.get("QUEUE_HOST", "queue"), socket_timeout=2 * WAIT_S, decode_responses=True
    )
    connection = database.connect()
    with connection, connection.cursor() as cursor:
        cursor.execute(database.TABLE)
    print("the queue and the database answer")
    left = queue.lrange("votes:taken", 0, -1)
    while True:
        for vote in left:
            write(connection, vote)
            queue.lrem("votes:taken", 1, vote)
        taken = queue.blmove("votes", "votes:taken", WAIT_S, "LEFT", "RIGHT")
        left = [taken] if taken else []


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    while True:
        try:
            work()
        except (redis.RedisError, psycopg2.Error) as error:
            print("again in a second:", str(error).strip())
            time.sleep(PAUSE_S)


if __name__ == "__main__":
    main()
