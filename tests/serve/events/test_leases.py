from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from recommender.serve.events.leases import Lease
from recommender.serve.events.log import EventLog


def test_one_of_many_holds_a_lease_until_it_gives_it_back(log: EventLog, url: str) -> None:
    with closing(EventLog.open(url)) as other, ThreadPoolExecutor(8) as pool:
        leases = [Lease(opened, "work") for opened in (log, other) for _ in range(4)]
        held = list(pool.map(Lease.held, leases))
        assert held.count(True) == 1
        assert [lease.held() for lease in leases] == held
        holder = leases.pop(held.index(True))
        assert Lease(log, "other work").held()
        holder.release()
        assert leases[0].held()
        assert not holder.held()


def test_a_lease_of_who_is_not_heard_of_any_more_goes_to_another(log: EventLog) -> None:
    gone, next_one = Lease(log, "work", seconds=-1), Lease(log, "work")
    assert gone.held()
    assert next_one.held()
    assert not gone.held()


def test_only_the_holder_keeps_a_state_and_everybody_reads_it(log: EventLog) -> None:
    holder, other = Lease(log, "work"), Lease(log, "work")
    assert holder.state() == {}
    assert not holder.keep({"n": 1})
    assert holder.held()
    assert holder.keep({"n": 1})
    assert not other.keep({"n": 2})
    assert other.state() == {"n": 1}
    holder.release()
    assert other.held()
    assert other.state() == {"n": 1}
