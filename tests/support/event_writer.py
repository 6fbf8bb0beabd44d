"""A process that appends to an event log from four threads, and prints what was acknowledged."""

from __future__ import annotations

# python -c WRITER URL TIMES NAME: each thread appends so many batches of two events, under keys that begin with NAME.
WRITER = """
import sys, threading
from datetime import UTC, datetime
from recommender.serve.events.event import Event
from recommender.serve.events.log import EventLog

log, printing = EventLog.open(sys.argv[1]), threading.Lock()

def write(thread):
    for n in range(int(sys.argv[2])):
        key = f"{sys.argv[3]}-{thread}-{n}"
        ids = log.append([Event(key, item, "view", datetime.now(UTC)) for item in "ij"], key).ids
        with printing:
            print(key, *ids, flush=True)

threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
"""
