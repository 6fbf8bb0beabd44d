"""The service does what its OpenAPI description says, whatever it is sent: schemathesis asks a running one."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from recommender.serve.app import create_app
from recommender.serve.keys import SCOPES, KeyFile
from recommender.serve.settings import Settings
from tests.support.servers import serving

# A request that fits the description can still name what the shop does not have: an item, an attribute.
LEFT_OUT = "positive_data_acceptance"


@pytest.mark.slow
@pytest.mark.service
def test_whatever_is_sent_is_answered_as_described(served_shop: Path, tmp_path: Path) -> None:
    shop = tmp_path / "shop"
    shutil.copytree(served_shop, shop)
    key, _ = KeyFile(tmp_path / "keys.json").create("all", SCOPES)
    settings = Settings(
        shop / "feature_repo", shop / "data" / "bundle", None, f"sqlite:///{tmp_path}/events.db",
        tmp_path / "keys.json", rate="1000000/minute",
    )  # fmt: skip
    with serving(create_app(settings), lifespan=True) as server:
        done = subprocess.run(
            [str(Path(sys.executable).with_name("schemathesis")), "run",
             f"http://127.0.0.1:{server.config.port}/openapi.json", "--header", f"Authorization: Bearer {key}",
             "--checks", "all", "--exclude-checks", LEFT_OUT, "--phases", "examples,coverage,fuzzing", "--seed", "1",
             "--max-examples", "25", "--continue-on-failure", "--warnings", "off", "--no-color"],
            cwd=tmp_path, capture_output=True, text=True, timeout=900, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout[-10_000:]
    assert "Tested: 18" in done.stdout
