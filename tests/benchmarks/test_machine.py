"""Whether the machine is idle enough, and what is said of it."""

import itertools

import pytest

from benchmarks import __main__ as entry
from benchmarks import machine


def _times(monkeypatch: pytest.MonkeyPatch, busy_share: float) -> None:
    readings = itertools.chain([(1000, 5000)], itertools.repeat((1000 + round(400 * busy_share), 5400)))
    monkeypatch.setattr(machine, "_times", lambda: next(readings))
    monkeypatch.setattr(machine.time, "sleep", lambda _: None)


@pytest.mark.parametrize("share", [0.0, 0.1])
def test_idle_machine_is_measured(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    _times(monkeypatch, share)
    machine.refuse_if_busy()


def test_busy_machine_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    _times(monkeypatch, 0.5)
    monkeypatch.setattr("sys.argv", ["benchmarks"])
    assert entry.main() == 1
    assert capsys.readouterr().err == "error: other programs take 50% of this machine; a comparison needs it idle\n"


def test_machine_that_is_busy_for_a_while_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    shares, now = iter([0.5, 0.3, 0.05]), [0.0]

    def refuse() -> None:
        now[0] += 2.0
        if (share := next(shares, 0.9)) > 0.1:
            raise machine.Busy(f"{share}")

    monkeypatch.setattr(machine, "refuse_if_busy", refuse)
    monkeypatch.setattr(machine.time, "monotonic", lambda: now[0])
    machine.wait_until_idle()
    assert now == [6.0]
    with pytest.raises(machine.Busy, match=r"0\.9"):
        machine.wait_until_idle(patience_s=10.0)
    assert now == [16.0]


def test_ticks_grow_and_some_of_them_are_busy() -> None:
    before = machine._times()
    sum(range(3_000_000))
    after = machine._times()
    assert 0 < before[0] <= after[0] <= after[1]
    assert before[1] < after[1]


def test_description_states_machine_versions_and_threads() -> None:
    found = machine.describe()
    assert found["cores"] >= 1
    assert found["processor"] != ""
    assert found["decode_threads"] >= 1
    assert found["libraries"]["openvino"].startswith("20")
