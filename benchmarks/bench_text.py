"""Measure precision and recall of `redact` and `tags` on the labelled sample in tests/data.

`make bench-text` prints the result and writes its section of docs/explanation/performance.md. A hash of the id splits
the sample into halves: the development half, on which words, patterns and weights were chosen, and the test half.
`python benchmarks/bench_text.py weights` fits the weights of tags.py on the development half.
"""

from __future__ import annotations

import hashlib
import json
import sys
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from common import ROOT, Row, write_section

from coldstart_udfs import Encoder
from coldstart_udfs.text.cleaning import PLACEHOLDERS
from coldstart_udfs.text.entities import entities, stated_price
from coldstart_udfs.text.redaction import private_spans
from coldstart_udfs.text.tags import Tagger
from coldstart_udfs.text.vocabulary import WORDS

Labelled = dict[str, Any]
Found = set[tuple[str, Any]]


def main() -> None:
    """Print and write the section; with the argument `weights`, print the regressions."""
    if sys.argv[1:] == ["weights"]:
        return weights()
    rows = [*redaction(), *tagging(), *audiences(), *languages(), *own_labels()]
    for what, against, measured in rows:
        print(f"{what} ({against}): {measured.replace('**', '')}")
    write_section(
        "text", "make bench-text",
        "Precision and recall on texts that were labelled by hand, without the output of the functions "
        "(`tests/data/README.md`). The functions were developed on one half; the other half was used only for this "
        "test: its counts, but not its failures, were looked at while the patterns of `redact` were built. The texts "
        "by language were made up by the author of those patterns, so that texts of strangers are likely to score "
        "lower. Audiences were labelled by the author of their vocabulary before it was written, both halves alike. "
        "The product texts in other languages are catalogues of sample shops; for them `tags` has the encoder "
        "`multilingual` and is not told the language. "
        "A span counts as found if its kind and its words are the same.", rows,
    )  # fmt: skip
    return None


def redaction() -> list[Row]:
    """Private spans, by kind."""

    def found(one: Labelled) -> Found:
        return {(kind, one["text"][start:stop]) for start, stop, kind in private_spans(one["text"])}

    def wanted(one: Labelled) -> Found:
        return {(span["kind"], span["value"]) for span in one["spans"]}

    rows = table("`redact`", read("private_texts"), found, wanted, PLACEHOLDERS)
    sample = read("private_texts_by_language")
    for language in dict.fromkeys(one["language"] for one in sample):
        texts = [one for one in sample if one["language"] == language]
        rows += table(f"`redact`, texts in `{language}`", texts, found, wanted, PLACEHOLDERS)
    return rows


def tagging() -> list[Row]:
    """Labels by group, and stated prices."""
    tagger = Tagger(Encoder())
    sample = read("tagged_texts")
    tags = dict(zip((one["id"] for one in sample), tagger.tag([one["text"] for one in sample]), strict=True))

    def found(one: Labelled) -> Found:
        labels: Found = {(tag.group or "", tag.label) for tag in tags[one["id"]] if tag.group in WORDS}
        price = stated_price(one["text"])
        return labels | ({("price", price)} if price is not None else set())

    def wanted(one: Labelled) -> Found:
        labels: Found = {(group, label) for group in WORDS for label in one[group]}
        return labels | ({("price", float(one["price"]))} if one["price"] is not None else set())

    return table("`tags`", sample, found, wanted, (*WORDS, "price"))


def audiences() -> list[Row]:
    """For whom a product is, on texts that name people and animals, many of them for another reason."""
    sample = read("audience_texts")
    tagged = Tagger(Encoder()).tag([one["text"] for one in sample])
    tags = {
        one["id"]: {("audience", tag.label) for tag in found if tag.group == "audience"}
        for one, found in zip(sample, tagged, strict=True)
    }
    return table(
        "`tags`, audience", sample,
        lambda one: tags[one["id"]], lambda one: {("audience", label) for label in one["audience"]}, (),
    )  # fmt: skip


def languages() -> list[Row]:
    """Labels by group in five languages, and the sizes and quantities that `entities` finds."""
    sample = read("tagged_texts_by_language")
    tagged = Tagger(Encoder("multilingual")).tag([one["text"] for one in sample])
    tags = {
        one["id"]: {(tag.group or "", tag.label) for tag in found if tag.group in WORDS}
        for one, found in zip(sample, tagged, strict=True)
    }
    rows: list[Row] = []
    for language in dict.fromkeys(one["language"] for one in sample):
        texts = [one for one in sample if one["language"] == language]
        rows += table(
            f"`tags`, texts in `{language}`", texts,
            lambda one: tags[one["id"]], lambda one: {(group, label) for group in WORDS for label in one[group]}, WORDS,
        )  # fmt: skip
        rows += table(f"`entities`, texts in `{language}`", texts, stated, labelled, ("size", "quantity"))
    return rows


def stated(one: Labelled) -> Found:
    """The sizes and quantities that `entities` finds: sizes as they are written, without spaces."""
    text = one["text"]
    found = [entity for entity in entities(text) if entity.kind in ("size", "quantity")]
    return {(each.kind, bare(text[each.start : each.stop]) if each.kind == "size" else each.value) for each in found}


def labelled(one: Labelled) -> Found:
    """The labelled sizes and quantities, as `stated` gives them."""
    return {("size", bare(words)) for words in one["size"]} | {("quantity", str(count)) for count in one["quantity"]}


def bare(words: str) -> str:
    """Lower case, without spaces, in compatible characters."""
    return "".join(unicodedata.normalize("NFKC", words).lower().split())


def own_labels() -> list[Row]:
    """The same labels, passed by the caller: only the words of the labels themselves are known."""
    labels = list(dict.fromkeys(label for group in WORDS.values() for label in group))
    tagger = Tagger(Encoder(), labels)
    sample = read("tagged_texts")
    tags = dict(zip((one["id"] for one in sample), tagger.tag([one["text"] for one in sample]), strict=True))
    return table(
        "`tags`, all labels given by the caller", sample,
        lambda one: {("", tag.label) for tag in tags[one["id"]]},
        lambda one: {("", label) for group in WORDS for label in one[group]}, (),
    )  # fmt: skip


def table(
    what: str, sample: Sequence[Labelled], found: Callable[[Labelled], Found], wanted: Callable[[Labelled], Found],
    kinds: Iterable[str],
) -> list[Row]:
    """One row for each half: all kinds together, then each kind for the test half."""
    rows: list[Row] = []
    for unseen, name in ((True, "test"), (False, "development")):
        half = [one for one in sample if is_unseen(one) == unseen]
        results = [(found(one), wanted(one)) for one in half]
        parts = [f"**{rates(results)}**"]
        if unseen:
            parts += [f"{kind} {rates(results, kind)}" for kind in kinds]
        rows.append((f"{what}, {len(half)} texts", f"labels of the {name} half", "; ".join(parts)))
    return rows


def rates(results: Sequence[tuple[Found, Found]], kind: str | None = None) -> str:
    """Precision and recall of one kind, or of all kinds, with the counts behind them."""
    pairs = [tuple({one for one in some if kind in (None, one[0])} for some in result) for result in results]
    right = sum(len(got & want) for got, want in pairs)
    told, there = sum(len(got) for got, _ in pairs), sum(len(want) for _, want in pairs)
    precision = f"{right / told:.2f}" if told else "–"
    recall = f"{right / there:.2f}" if there else "–"
    return f"{precision} / {recall} ({right} of {told} found are right, {there} labelled)"


def weights() -> None:
    """Fit logit(score) = bias + word·match + cosine·z for each set of groups that share weights."""
    from sklearn.linear_model import LogisticRegression

    sample = [one for one in read("tagged_texts") if not is_unseen(one)]
    texts = [one["text"] for one in sample]
    pairs = [(group, label) for group in WORDS for label in WORDS[group]]
    truth = np.array([[label in one[group] for group, label in pairs] for one in sample])
    default, own = Tagger(Encoder()), Tagger(Encoder(), [label for _, label in pairs])
    own_pairs = list(dict.fromkeys(label for _, label in pairs))
    for name, tagger, groups in (
        ("colour, material", default, ("colour", "material")), ("style, occasion", default, ("style", "occasion")),
        ("own labels", own, tuple(WORDS)),
    ):  # fmt: skip
        columns = [column for column, (group, _) in enumerate(pairs) if group in groups]
        asked = columns if tagger is default else [own_pairs.index(pairs[column][1]) for column in columns]
        features = [tagger.matches(texts)[:, asked].ravel(), tagger.similarities(texts)[:, asked].ravel()]
        model = LogisticRegression().fit(np.stack(features, axis=1).astype(float), truth[:, columns].ravel())
        print(name, np.round([*model.intercept_, *model.coef_[0]], 2).tolist())


def read(name: str) -> list[Labelled]:
    """Read the rows of a file in tests/data."""
    lines = (ROOT / "tests" / "data" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def is_unseen(one: Labelled) -> bool:
    """Whether a text belongs to the test half."""
    return int(hashlib.md5(one["id"].encode(), usedforsecurity=False).hexdigest(), 16) % 2 == 1


if __name__ == "__main__":
    main()
