"""How many requests a key may make."""

from __future__ import annotations

import time

from limits import RateLimitItem, parse
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from limits.storage import storage_from_string

from coldstart_udfs.errors import ColdStartError


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
    """Counts the requests of each key.

    Args:
        rate: see `parsed`.
        storage: "memory://" counts in this process, "redis://host:port" over all that share that Redis.
    """

    def __init__(self, rate: str, storage: str) -> None:
        self._rate = parsed(rate)
        options = {"implementation": "redispy"} if storage.startswith("redis") else {}
        self._limiter = SlidingWindowCounterRateLimiter(storage_from_string(f"async+{storage}", **options))

    async def wait(self, key: str) -> int:
        """Count a request; 0, or how many seconds to wait before the next one."""
        if await self._limiter.hit(self._rate, key):
            return 0
        window = await self._limiter.get_window_stats(self._rate, key)
        return max(1, round(window.reset_time - time.time()))
