"""From the answers of a user so far to the next question and the list."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from coldstart_client import interviews as schemas
from recommender.model.fitted import Fitted
from recommender.model.ranking import Rules
from recommender.model.user_side import UserSide
from recommender.serve.answers import Answers, Encoded, Moment
from recommender.serve.interview.asking import BOOST, NO, YES, Interview, Reply, Topics

_WEIGHTS = {"yes": YES, "no": -NO}
_BAND = re.compile(r"2\^(-?\d+)")


def interviewed(
    topics: Topics, answers: Answers, now: Moment, request: schemas.InterviewRequest, said: Encoded | None
) -> schemas.Interview:
    """The next question and the list.

    A "yes" or "no" about an item counts as an event of the session, so the list is what `Answers.recommend` gives; of
    an attribute it counts as a boost.

    Args:
        topics: of the state in `now`.
        answers: answers the request for the list.
        now: what the answer is made from.
        request: all answers so far.
        said: the text of the request.

    Raises:
        UnknownIdError: a rule names an item that the recommender does not know.
        ColdStartError: no item has the attribute of a rule.
    """
    fitted = now.fitted
    replies = {one.item_id or one.attribute or "": one for one in request.answers}  # the last one of each counts
    of_items = {name: one.answer for name, one in replies.items() if one.item_id}
    of_attributes = {name: one.answer for name, one in replies.items() if one.attribute}
    known = {name: reply for name, reply in of_attributes.items() if name in fitted.rows_with}
    boost = dict(request.boost)
    for name, reply in known.items():
        boost[name] = boost.get(name, 0.0) + BOOST * ((reply == "yes") - (reply == "no"))
    opinions = [(name, _WEIGHTS[reply]) for name, reply in of_items.items() if reply in _WEIGHTS]
    listed = answers.recommend(now, request.model_copy(update={"boost": boost}), said, opinions)
    user = answers.user(now, request, said)
    told = _rows(topics, fitted, of_items | known)
    interview = Interview.begin(topics, user).after(told.items())
    question = _question(interview, fitted, _open(topics, fitted, request, user, told))
    return schemas.Interview(
        **listed.model_dump(), question=question, learned=interview.learned,
        answered=sum(reply != "unknown" for reply in told.values()),
        unknown_attributes=[name for name in of_attributes if name not in known],
    )  # fmt: skip


def _rows(topics: Topics, fitted: Fitted, replies: Mapping[str, Reply]) -> dict[int, Reply]:
    """The replies by row of the topics; what is no topic is left out."""
    attributes = {name: topics.items + place for place, name in enumerate(topics.prior.attributes)}
    found = {}
    for name, reply in replies.items():
        row = attributes.get(name, fitted.items.row(name))
        if row >= 0:
            found[row] = reply
    return found


def _open(
    topics: Topics, fitted: Fitted, request: schemas.InterviewRequest, user: UserSide, told: Mapping[int, Reply]
) -> NDArray[np.int64]:
    """What may be asked about: what may be on the list, and was not asked about before."""
    rules = Rules.of(fitted, 1, request.among, request.without, request.attribute, None, (), 0)
    allowed = np.ones(topics.items, bool) if rules.allowed is None else rules.allowed.copy()
    allowed[user.history.indices] = False
    open_ = np.concatenate([
        allowed & (request.about != "attributes"),
        np.full(len(topics.prior.attributes), request.about != "items"),
    ])  # fmt: skip
    open_[list(told)] = False
    return np.flatnonzero(open_)


def _question(interview: Interview, fitted: Fitted, rows: NDArray[np.int64]) -> schemas.InterviewQuestion | None:
    """The question with the largest gain; an item without a description cannot be asked about."""
    gains, items = interview.gains(rows), interview.topics.items
    for place in np.argsort(-gains, kind="stable").tolist():
        row = rows[place : place + 1]
        gain, answerable = float(gains[place]), float(interview.answerable(row)[0])
        if row[0] >= items:
            name = interview.topics.prior.attributes[int(row[0]) - items]
            column, _, value = name.partition("=")
            value = _spelled(value)
            sentence = f"Are you interested in items whose {column.replace('_', ' ')} is {value}?"
            return schemas.InterviewQuestion(
                item_id=None, attribute=name, description=value, sentence=sentence, answerable=answerable, gain=gain
            )
        (description,) = fitted.items.descriptions(row)
        if description:
            return schemas.InterviewQuestion(
                item_id=fitted.items.ids(row)[0], attribute=None, description=description,
                sentence=f"Do you like “{description}”?", answerable=answerable, gain=gain,
            )  # fmt: skip
    return None


def _spelled(value: str) -> str:
    """The value of an attribute in words; a band of numbers is spelled out.

    >>> _spelled("2^3"), _spelled("2^-1"), _spelled("garden")
    ('from 8 to 16', 'from 0.5 to 1', '“garden”')
    """
    band = _BAND.fullmatch(value)
    return f"from {2.0 ** int(band[1]):g} to {2.0 ** (int(band[1]) + 1):g}" if band else f"“{value}”"
