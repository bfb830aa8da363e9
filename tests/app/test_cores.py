"""Cores in containers: what a process is bound to, and what its control group allows."""

import os
from pathlib import Path

import pytest

from app.cores import available_cores


@pytest.fixture(autouse=True)
def _eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))


@pytest.mark.parametrize(
    ("quota", "cores"),
    [
        ("max 100000\n", 8),
        ("200000 100000\n", 2),
        ("150000 100000\n", 2),
        ("25000 100000\n", 1),
        ("1600000 100000\n", 8),
        ("100000 0\n", 8),
        ("\n", 8),
    ],
)
def test_share_of_time_limits_the_cores(quota: str, cores: int, tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text(quota)
    assert available_cores(tmp_path, tmp_path / "own") == cores


@pytest.mark.parametrize(("quota", "cores"), [("-1\n", 8), ("300000\n", 3)])
def test_first_version_of_control_groups_is_understood(quota: str, cores: int, tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(quota)
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert available_cores(tmp_path, tmp_path / "own") == cores


def test_least_share_on_the_way_to_its_own_group_counts(tmp_path: Path) -> None:
    (tmp_path / "own").write_text("0::/system.slice/demitasse.service\n")
    service = tmp_path / "system.slice" / "demitasse.service"
    service.mkdir(parents=True)
    assert available_cores(tmp_path, tmp_path / "own") == 8
    (service / "cpu.max").write_text("400000 100000\n")
    assert available_cores(tmp_path, tmp_path / "own") == 4
    (service.parent / "cpu.max").write_text("300000 100000\n")
    assert available_cores(tmp_path, tmp_path / "own") == 3


def test_without_control_groups_the_process_has_what_it_is_bound_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert available_cores(tmp_path, tmp_path / "own") == 8
    monkeypatch.delattr(os, "sched_getaffinity")  # as on macOS
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert available_cores(tmp_path, tmp_path / "own") == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert available_cores(tmp_path, tmp_path / "own") == 1
