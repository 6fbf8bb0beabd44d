"""Running the service's processes."""

from __future__ import annotations

import os
import signal
import sys
import tempfile

from recommender.serve import logs
from recommender.serve.metrics import SHARED
from recommender.serve.rates import Rates
from recommender.serve.settings import Settings


def run(settings: Settings, host: str, port: int, workers: int) -> None:
    """Listen until the process is told to stop.

    Raises:
        ColdStartError: the rate, or where requests are counted, cannot be read.
    """
    import uvicorn

    Rates(settings.rate, settings.rates)
    settings.to_environment()
    logs.configure()  # of the process that starts workers again
    # A single worker ends as this signal says, after it has stopped: by default at once, and the folder would stay.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    with tempfile.TemporaryDirectory(prefix="coldstart-metrics-") as shared:
        # A folder of its own, whatever the environment says: two services would add up their numbers.
        os.environ[SHARED] = shared
        uvicorn.run(
            "recommender.serve.app:of_environment", factory=True, host=host, port=port, workers=workers,
            log_config=None, access_log=False, ws="none", server_header=False, timeout_keep_alive=30,
            timeout_graceful_shutdown=10, timeout_worker_healthcheck=120,
            http="recommender.serve.connection:Connection",
        )  # fmt: skip
