"""docs/reference/sql-functions.md, which `python -m recommender.sql` prints too."""

from __future__ import annotations

from coldstart_udfs.sql.catalogue import KERNEL
from coldstart_udfs.sql.reference import reference
from recommender.sql.catalogue import CATALOGUE


def page() -> str:
    """The page."""
    return reference(KERNEL, CATALOGUE)
