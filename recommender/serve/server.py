"""Running the service's processes."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from typing import TYPE_CHECKING, Any

from recommender.serve import logs
from recommender.serve.metrics import SHARED
from recommender.serve.rates import Rates
from recommender.serve.settings import Settings

if TYPE_CHECKING:
    import uvicorn

_APP = "recommender.serve.app:of_environment"


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
        options: dict[str, Any] = {
            "factory": True, "host": host, "port": port, "workers": workers, "log_config": None, "access_log": False,
            "ws": "none", "server_header": False, "timeout_keep_alive": 30, "timeout_graceful_shutdown": 10,
            "timeout_worker_healthcheck": 120, "http": "recommender.serve.connection:Connection",
        }  # fmt: skip
        if workers == 1:
            uvicorn.run(_APP, **options)
        else:
            _run_workers(uvicorn.Config(_APP, **options))


def _run_workers(config: uvicorn.Config) -> None:
    """As `uvicorn.run`, but for workers that die while they are asked whether they live."""
    from uvicorn.supervisors import Multiprocess

    class Workers(Multiprocess):
        def keep_subprocess_alive(self) -> None:
            for process in self.processes:
                # The worker has an end of its own. While this one is open, nobody sees that the other is gone, and
                # neither starts another worker nor stops, until the health check has waited for its time.
                process.child_conn.close()
            super().keep_subprocess_alive()

    config.load_app()
    Workers(config, [config.bind_socket()]).run()
