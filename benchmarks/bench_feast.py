"""The Feast plugin beside Feast: history, enrichment in history, online, over HTTP. `make bench-feast`."""

from __future__ import annotations

import bench_history
import bench_online
from common import write_section


def main() -> None:
    """Print and write the section."""
    rows = [*bench_history.rows(), *bench_online.rows()]
    for what, against, _, measured in rows:
        print(f"{what} ({against}): {measured.replace('**', '')}")
    write_section(
        "feast", "make bench-feast",
        "Texts are products of Online Retail. In one run, interleaved, medians. History: 100,000 entity rows, 4,167 "
        "users with 24 versions each, one feature of 384 floats in a file as pandas writes it; `to_arrow()`, each run "
        "a process of its own. Memory is the peak of the process, and in brackets what of it came after the imports.",
        rows,
    )  # fmt: skip


if __name__ == "__main__":
    main()
