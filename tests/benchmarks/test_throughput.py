"""The tables, and the figures that they are made of."""

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks import pictures, servers, throughput


def _row(rate: float, p50_ms: float, engine: str = "", statuses: dict[str, int] | None = None) -> dict[str, Any]:
    figures = {"rate": rate, "p50_ms": p50_ms, "p99_ms": 2 * p50_ms, "statuses": statuses or {"200": 9}}
    return {"1": figures, "16": figures, "64": figures, "engine": engine, "resident_mib": 200}


def test_table_has_ratios_to_the_peers_and_shares_of_the_limit() -> None:
    rows = {
        "demitasse": _row(300.0, 5.0, "openvino", {"200": 9, "429": 1}),
        "usual FastAPI": _row(80.0, 10.0),
        "LitServe": _row(100.0, 16.0),
    }
    lines = list(throughput.table({"contenders": rows, "limit": {"openvino": 400.0, "tensorflow": 200.0}}))
    assert lines[2:] == [
        "| demitasse | 300/s, 5.0 ms (0.50x) | 300/s (3.00x); 75% | 300/s (3.00x); 75% | 10 ms, {'429': 1} | 200 MiB |",
        "| usual FastAPI | 80/s, 10.0 ms (1.00x) | 80/s (0.80x) | 80/s (0.80x) | 20 ms | 200 MiB |",
        "| LitServe | 100/s, 16.0 ms (1.60x) | 100/s (1.00x) | 100/s (1.00x) | 32 ms | 200 MiB |",
        "| limit: decoding and openvino without HTTP | | 400/s | | | |",
        "| limit: decoding and tensorflow without HTTP | | 200/s | | | |",
    ]


def test_table_without_peers_has_no_ratios() -> None:
    rows = {"demitasse": _row(300.0, 5.0, "openvino")}
    lines = list(throughput.table({"contenders": rows, "limit": {"openvino": 400.0}}))
    assert lines[2] == "| demitasse | 300/s, 5.0 ms | 300/s; 75% | 300/s; 75% | 10 ms | 200 MiB |"


def test_of_several_rounds_each_figure_is_the_median_and_all_rates_are_kept() -> None:
    runs = [_row(3.0, 1.0), _row(1.0, 3.0, statuses={"200": 5, "429": 1}), _row(2.0, 5.0)]
    for run in runs:
        run |= {"ready_after_s": 1.0, "broken": 0}
        for clients in ("1", "16", "64"):
            run[clients] |= {"broken": 2}
    found = throughput._median(runs)
    assert found["16"] == {
        "rate": 2.0,
        "p50_ms": 3.0,
        "p99_ms": 6.0,
        "rates": [3.0, 1.0, 2.0],
        "statuses": {"200": 23, "429": 1},
        "broken": 6,
    }
    assert (found["resident_mib"], found["engine"], found["rounds"]) == (200, "", runs)


def test_contenders_are_both_engines_several_processes_and_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers.Kind, "installed", property(lambda kind: kind.name == "LitServe"))
    assert [(kind.name, kind.engine) for kind in throughput.contenders(processes=2)] == [
        ("demitasse, OpenVINO", "openvino"),
        ("demitasse, TensorFlow", "tensorflow"),
        ("demitasse, OpenVINO, 2 workers", "openvino"),
        ("LitServe", ""),
    ]
    assert [kind.name for kind in throughput.contenders(processes=1)][:2] == [
        "demitasse, OpenVINO",
        "demitasse, TensorFlow",
    ]
    assert len(throughput.contenders(processes=1)) == 3


def test_limit_is_that_of_the_model_in_a_process_of_its_own() -> None:
    assert throughput.limit("mnist", "openvino", pictures.made("mnist", pictures.TINY, 4), 0.2) > 10


def test_pictures_are_alike_in_every_run_and_each_has_the_label_of_the_model() -> None:
    found = pictures.made("imagenet", pictures.PHOTO, 4)
    assert [picture.data for picture in found] == [
        picture.data for picture in pictures.made("imagenet", pictures.PHOTO, 4)
    ]
    assert {picture.label for picture in found} <= {"espresso", "tabby", "tiger cat", "Egyptian cat"}
    assert all(Image.open(io.BytesIO(picture.data)).size == pictures.PHOTO for picture in found)
    assert 80_000 < pictures.mean_bytes(found) < 140_000


def test_versions_of_a_peer_are_those_of_its_own_environment() -> None:
    kind = servers.Kind("peer", (sys.executable,), "/health", packages=("numpy",))
    assert kind.versions() == {"numpy": np.__version__}


def test_service_is_started_watched_and_stopped(tmp_path: Path) -> None:
    log = tmp_path / "service.log"
    with servers.running(servers.demitasse(), throughput.newest("mnist"), log) as service:
        assert service.ready_after_s > 0
        assert service.resident_mib() > 50
        process = service.process
        assert process.poll() is None
    assert process.poll() is not None


def test_service_that_does_not_start_is_told_with_its_log(tmp_path: Path) -> None:
    log = tmp_path / "service.log"
    with (
        pytest.raises(RuntimeError, match=r"(?s)demitasse did not get ready.*PORT"),
        servers.running(servers.demitasse(PORT="0"), throughput.newest("mnist"), log),
    ):
        pass
