"""`python -m recommender.sql` prints the reference page of all SQL functions."""

from __future__ import annotations

from coldstart_udfs.sql.catalogue import KERNEL
from coldstart_udfs.sql.reference import reference
from recommender.sql.catalogue import CATALOGUE

print(reference(KERNEL, CATALOGUE), end="")
