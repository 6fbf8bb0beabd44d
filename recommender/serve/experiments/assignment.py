"""Who is in which experiment, and in which arm: decided by hashes of the user's id alone.

A layer divides its users into buckets by a hash of its name and the user. Each running experiment of the layer has
buckets of its own, so no user is in two of them; layers are independent of each other. The arm is decided by a second
hash, of the experiment's seed and the user: neither other experiments nor other layers change it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from coldstart_client.experiments import Arm, ExperimentRequest

BUCKETS = 1_000


@dataclass(frozen=True)
class Running:
    """An experiment that assigns users.

    Attributes:
        spec: the experiment.
        seed: of the assignment to arms.
        buckets: of its layer, those that it has.
    """

    spec: ExperimentRequest
    seed: str
    buckets: frozenset[int]

    def has(self, user_id: str) -> bool:
        """Whether a user is in the experiment."""
        return bucket_of(self.spec.layer, user_id) in self.buckets

    def arm_of(self, user_id: str) -> Arm | None:
        """The arm of a user; None if they are not in the experiment."""
        if not self.has(user_id):
            return None
        return self.spec.arms[chosen(part_of(self.seed, user_id), [arm.share for arm in self.spec.arms])]


def part_of(seed: str, user_id: str) -> float:
    """A number from 0 up to 1, the same for the same seed and user.

    >>> part_of("a", "ann") == part_of("a", "ann"), part_of("a", "ann") == part_of("b", "ann")
    (True, False)
    """
    # The length keeps ("a", "bc") apart from ("ab", "c").
    said = f"{len(seed)}:{seed}{user_id}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.sha256(said).digest()[:6]) / 2**48


def bucket_of(layer: str, user_id: str) -> int:
    """The bucket of a user in a layer."""
    return int(part_of(f"layer {layer}", user_id) * BUCKETS)


def chosen(part: float, shares: Sequence[float]) -> int:
    """The place of the arm to which a part from 0 up to 1 belongs.

    >>> [chosen(part, [1, 3]) for part in (0.0, 0.24, 0.25, 0.99)]
    [0, 0, 1, 1]
    """
    total, until = sum(shares), 0.0
    for place, share in enumerate(shares):
        until += share / total
        if part < until:
            return place
    return len(shares) - 1


def free_buckets(share: float, taken: Iterable[int]) -> list[int] | None:
    """The first buckets that nobody has, as many as a share of the layer needs; None if there are not enough."""
    used, wanted = set(taken), max(round(share * BUCKETS), 1)
    found = [bucket for bucket in range(BUCKETS) if bucket not in used][:wanted]
    return found if len(found) == wanted else None
