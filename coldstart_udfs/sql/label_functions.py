"""The Python halves of classify(): one learns from the examples and gives a key, the other labels texts by that key."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import OrderedDict

import pyarrow as pa

from coldstart_udfs.arrow_lists import Column
from coldstart_udfs.encoder.encoder import Encoder
from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.sql.arrow_functions import PythonFunction, encoder_for
from coldstart_udfs.sql.distinct import by_setting
from coldstart_udfs.text.classify import Classifier, Learned, checked_threshold, learn
from coldstart_udfs.text.examples import examples_of
from coldstart_udfs.text.redaction import redact

# What was learned, by examples and encoder, most recently used last. It belongs to the process, because each thread of
# dbt has a connection of its own; it holds no encoder.
_learned: OrderedDict[str, Learned] = OrderedDict()
_learning = threading.Lock()
_MOST = 32

_CHOICE = pa.struct([("label", pa.string()), ("probability", pa.float64())])
_ABSENT = '"NULL"'  # typeof() of a column that the table has not


def _classifier(
    texts: Column, labels: Column, table: Column, text_type: Column, description_type: Column, label_type: Column,
    private: Column, model: Column, backend: Column, cache: Column, connection: Column,
) -> pa.Array:
    keys = []
    for row in range(len(texts)):
        name = table[row].as_py()
        given = texts[row].as_py()
        if not given:
            raise ColdStartError(f"classify(): {name} has no rows; insert examples of at least two labels")
        lacking = [
            column for column, absent in (
                ("text", text_type[row].as_py() == description_type[row].as_py() == _ABSENT),
                ("label", label_type[row].as_py() == _ABSENT),
            ) if absent
        ]  # fmt: skip
        if lacking:
            raise ColdStartError(
                f"classify(): {name} has no column {' and no column '.join(lacking)}; it needs text (or description) "
                f"and label, so rename them: WITH t AS (SELECT … AS text, … AS label FROM {name}) SELECT "
                "classify(…, 't')"
            )
        try:
            examples = examples_of(given, labels[row].as_py())
        except ColdStartError as error:
            raise ColdStartError(f"classify(): {name}: {error}") from None
        if private[row].as_py() == "1":
            examples = tuple(sorted({(label, redact(text)) for label, text in examples}))
        with encoder_for(model, backend, cache, connection) as encoder:
            keys.append(_learn(encoder, examples))
    return pa.array(keys, pa.string())


def _learn(encoder: Encoder, examples: tuple[tuple[str, str], ...]) -> str:
    """The key of what is learned from the examples, which is learned now if it is not known."""
    digest = hashlib.blake2b(json.dumps([encoder.fingerprint, examples]).encode(), digest_size=16)
    key = digest.hexdigest()
    with _learning:
        if key not in _learned:
            _learned[key] = learn(encoder, examples)
            if len(_learned) > _MOST:
                _learned.popitem(last=False)
        _learned.move_to_end(key)
    return key


def _classify(
    text: Column, threshold: Column, key: Column, model: Column, backend: Column, cache: Column, connection: Column,
) -> pa.Array:
    def choose(texts: list[str], least: float | None, known: str) -> list[dict[str, object] | None]:
        try:
            checked_threshold(least)
        except ColdStartError as error:
            raise ColdStartError(f"classify(): {error}") from None
        learned = _learned.get(known)
        if learned is None:
            raise ColdStartError(
                f"classify(): what was learned from these examples was replaced by that from {_MOST} other tables "
                f"while the query ran; run it again, and name at most {_MOST} tables in a query"
            )
        with encoder_for(model, backend, cache, connection) as encoder:
            found = Classifier(encoder, learned).predict(texts, threshold=least)
        return [None if one is None else vars(one) for one in found]

    return by_setting(text, (threshold, key), choose, _CHOICE)


LABEL_FUNCTIONS = (
    PythonFunction(
        "_coldstart_classifier", ("VARCHAR[]", "VARCHAR[]", *("VARCHAR",) * 9), "VARCHAR", _classifier,
    ),
    PythonFunction(
        "_coldstart_classify", ("VARCHAR", "DOUBLE", *("VARCHAR",) * 5), "STRUCT(label VARCHAR, probability DOUBLE)",
        _classify,
    ),
)  # fmt: skip
