"""How many requests a caller may make."""

from __future__ import annotations

import time

from limits import RateLimitItem, parse
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from limits.errors import ConfigurationError, StorageError
from limits.storage import storage_from_string

from coldstart_udfs.errors import ColdStartError
from recommender.serve.logs import log, place_of
from recommender.serve.metrics import Metrics

# Redis is waited for so many seconds; when it has failed, it is asked again after so many.
_PATIENCE = 0.25
_PAUSE = 1.0


def parsed(rate: str) -> RateLimitItem:
    """A rate such as "600/minute".

    Raises:
        ColdStartError: it is none.
    """
    try:
        return parse(rate)
    except ValueError:
        raise ColdStartError(f"the rate is {rate!r}; give a number and a time, such as 600/minute") from None


class Rates:
    """Counts the requests of each caller. While Redis does not answer, each process counts by itself.

    Args:
        rate: see `parsed`.
        storage: "memory://" counts in this process, "redis://host:port" over all that share that Redis.
        metrics: count what each process counts by itself although it should not.

    Raises:
        ColdStartError: rate or storage cannot be read.
    """

    def __init__(self, rate: str, storage: str, metrics: Metrics | None = None) -> None:
        self._rate, self._metrics = parsed(rate), metrics
        self._own, self._shared = _limiter("memory://"), None if storage == "memory://" else _limiter(storage)
        self._alone_until: float | None = None

    async def wait(self, caller: str) -> int:
        """Count a request; 0, or how many seconds to wait before the next one."""
        if self._shared is None:
            return await self._count(self._own, caller)
        if self._alone_until is None or time.monotonic() >= self._alone_until:
            try:
                seconds = await self._count(self._shared, caller)
            except StorageError as error:
                if self._alone_until is None:
                    log.warning("rates counted in each process", **place_of(error.storage_error))
                self._alone_until = time.monotonic() + _PAUSE
            else:
                if self._alone_until is not None:
                    log.info("rates counted over all processes again")
                self._alone_until = None
                return seconds
        if self._metrics is not None:
            self._metrics.counted_alone.inc()
        return await self._count(self._own, caller)

    async def close(self) -> None:
        """Close the connections to Redis."""
        bridge = getattr(self._shared.storage, "bridge", None) if self._shared is not None else None
        if bridge is not None:
            await bridge.storage.aclose()

    async def _count(self, limiter: SlidingWindowCounterRateLimiter, caller: str) -> int:
        if await limiter.hit(self._rate, caller):
            return 0
        window = await limiter.get_window_stats(self._rate, caller)
        return max(1, round(window.reset_time - time.time()))


def _limiter(storage: str) -> SlidingWindowCounterRateLimiter:
    options: dict[str, float | str | bool] = {}
    if storage.startswith(("redis", "async+redis")):
        options = {"implementation": "redispy", "socket_timeout": _PATIENCE, "socket_connect_timeout": _PATIENCE}
    try:
        return SlidingWindowCounterRateLimiter(
            storage_from_string(f"async+{storage}", wrap_exceptions=True, **options)
        )
    except (ConfigurationError, ValueError, TypeError):
        # Not the library's words: they have the URL, with its password.
        raise ColdStartError(
            f"requests cannot be counted in {storage.partition(':')[0]}://…; give memory:// or redis://HOST:PORT, for "
            "which pip install 'feast-coldstart[redis]' is needed"
        ) from None
