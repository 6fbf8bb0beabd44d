"""Compare the Feast plugin with Feast: history, enrichment in history, online, over HTTP. `make bench-feast`."""

from __future__ import annotations

import bench_history
import bench_online
from common import write_section


def main() -> None:
    """Print and write the section."""
    rows = [*bench_history.rows(), *bench_online.rows()]
    for what, against, measured in rows:
        print(f"{what} ({against}): {measured.replace('**', '')}")
    write_section(
        "feast", "make bench-feast",
        "Texts are product texts of Online Retail. Values are medians of interleaved rounds in one run. History: "
        "100,000 entity rows, 4,167 users with 24 versions each, one feature of 384 floats in a file written by "
        "pandas; `to_arrow()`, each run in a separate process. Memory is the peak of the process; the part after "
        "the imports is in brackets.",
        rows,
    )  # fmt: skip


if __name__ == "__main__":
    main()
