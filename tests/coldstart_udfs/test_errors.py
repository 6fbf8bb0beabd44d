from __future__ import annotations

import pickle

from coldstart_udfs.errors import ColdStartError, FingerprintError


def test_errors_travel_between_processes() -> None:
    error = FingerprintError(found="a", found_in="items", expected="b", expected_by="Encoder", remedy="Embed again.")
    for one in (ColdStartError("a sentence"), error):
        other = pickle.loads(pickle.dumps(one))
        assert type(other) is type(one)
        assert str(other) == str(one)
