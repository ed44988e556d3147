"""Run as a script: starts one embedded server, says so in a line of JSON, and goes on until it is killed.

`python serve.py postgres|redis FOLDER`
"""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

from worker.embedded.errors import EmbeddedServerError
from worker.embedded.postgres import EmbeddedPostgres
from worker.embedded.redis import EmbeddedRedis

KINDS = {"postgres": EmbeddedPostgres, "redis": EmbeddedRedis}


def say(**message: object) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a test run in the background ignores it and passes that on
    try:
        with KINDS[sys.argv[1]](Path(sys.argv[2])) as server:
            say(url=server.url, pid=server.pid)
            signal.pause()
    except EmbeddedServerError as error:
        say(error=str(error))
