"""OpenVINO on models made by hand; that it agrees with TensorFlow on a trained one is for tests/contract."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import openvino.opset13 as ops
import pytest

from app.inference.engines import factory, lanes, openvino
from app.inference.engines.base import TOP_CLASS, EngineError, prove
from app.inference.engines.openvino import OpenVinoEngine, resolve_precision
from models.manifest import Manifest
from models.repository import VersionFolder
from tests.app.conftest import manifest, publish, shades


def _version(
    root: Path, name: str = "cups", output: str = "probabilities", *, heatmap: bool = True
) -> tuple[VersionFolder, Manifest]:
    """The fake engine's function as OpenVINO IR, which also gives the feature map, the embedding and a heat map."""
    images = ops.parameter([-1, 2, 2, 3], np.uint8, name="images")
    class_ids = ops.parameter([-1], np.int32, name="class_ids")
    scaled = ops.divide(ops.convert(images, "f32"), np.float32(255))
    bright = ops.reduce_mean(scaled, np.array([1, 2, 3]), keep_dims=False)
    column = ops.unsqueeze(bright, np.array(1))
    found = ops.concat([ops.subtract(np.float32(1), column), column, ops.multiply(column, np.float32(0))], axis=1)
    outputs = {output: found, "features": scaled, "embedding": ops.concat([column, column], axis=1)}
    if heatmap:
        chosen = ops.reshape(ops.convert(class_ids, "f32"), np.array([-1, 1, 1]), special_zero=False)
        outputs["heatmap"] = ops.add(ops.reduce_mean(scaled, np.array([3]), keep_dims=False), chosen)
    for label, node in outputs.items():
        node.output(0).set_names({label})
    folder = publish(root, name)
    (folder.path / "openvino").mkdir()
    inputs = [class_ids, images] if heatmap else [images]
    model = ov.Model([ops.result(node) for node in outputs.values()], inputs, "fake")
    ov.save_model(model, folder.path / "openvino" / "model.xml", compress_to_fp16=False)
    return folder, manifest(files={"openvino/model.xml": "0" * 64})


def _pictures(count: int) -> np.ndarray:
    return np.arange(count, dtype=np.uint8)[:, None, None, None] * np.full((1, 2, 2, 3), 20, np.uint8)


def test_probabilities_are_those_of_the_model_at_any_batch_size(tmp_path: Path) -> None:
    engine = OpenVinoEngine(*_version(tmp_path), "f32")
    assert (engine.name, engine.device, engine.precision) == ("openvino", "CPU", "f32")
    for size in (1, 8, 3):
        found = engine.infer(_pictures(size))
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, shades(_pictures(size)), atol=1e-6)


def test_explanation_has_the_heat_map_of_the_class_that_is_asked_for(tmp_path: Path) -> None:
    engine, pictures = OpenVinoEngine(*_version(tmp_path), "f32", threads=2), _pictures(3)
    found = engine.explain(pictures, np.array([2, 0, TOP_CLASS], np.int32))

    bright = shades(pictures)[:, 1]
    np.testing.assert_allclose(found.probabilities, shades(pictures), atol=1e-6)
    np.testing.assert_allclose(found.embedding, np.stack([bright, bright], axis=1), atol=1e-6)
    assert found.heatmap is not None
    assert found.heatmap.shape == (3, 2, 2)
    np.testing.assert_allclose(found.heatmap[:, 1, 0], bright + np.array([2, 0, -1]), atol=1e-6)


def test_explanation_of_a_version_from_before_heat_maps_has_its_embedding(tmp_path: Path) -> None:
    engine = OpenVinoEngine(*_version(tmp_path, heatmap=False), "f32")
    found = engine.explain(_pictures(3), np.zeros(3, np.int32))

    assert found.heatmap is None
    np.testing.assert_allclose(found.embedding[:, 0], shades(_pictures(3))[:, 1], atol=1e-6)


def test_what_explains_is_loaded_once_and_only_when_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[int] = []
    requests = OpenVinoEngine._requests
    engine = OpenVinoEngine(*_version(tmp_path), "f32")
    engine.infer(_pictures(1))

    def noted(self: OpenVinoEngine, model: ov.Model, *shape: int) -> Any:
        loaded.append(len(model.outputs))
        return requests(self, model, *shape)

    monkeypatch.setattr(OpenVinoEngine, "_requests", noted)
    first, second = (engine.explain(_pictures(size), np.zeros(size, np.int32)) for size in (1, 2))
    assert loaded == [3]
    assert first.heatmap is not None  # the memory of outputs is not used again
    np.testing.assert_allclose(first.heatmap, 0)
    assert second.heatmap is not None
    assert len(second.heatmap) == 2


def test_version_that_cannot_explain_says_so(tmp_path: Path) -> None:
    folder, read = _version(tmp_path)
    engine = OpenVinoEngine(folder, read, "f32")
    (folder.path / "openvino" / "model.xml").unlink()
    with pytest.raises(EngineError, match="OpenVINO can't explain with it"):
        engine.load_explanations()


def test_version_proves_itself_on_the_engine_of_this_machine(tmp_path: Path) -> None:
    folder, read = _version(tmp_path)
    prove(factory("openvino", "auto", 1)(folder, read), folder, read, 2)


def test_lanes_compute_what_the_whole_does_each_in_a_thread_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino, "_WORTH_LANES_S", 0.0)  # the network is a small one
    engine = OpenVinoEngine(*_version(tmp_path), "f32", threads=2)
    assert len(engine.lanes) == 2

    def compute(lane: int, shift: int) -> np.ndarray:
        return engine.lanes[lane](_pictures(8) + np.uint8(shift))

    with ThreadPoolExecutor(2) as pool:
        for shift in range(20):
            for lane, found in enumerate(pool.map(compute, (0, 1), (shift, 20 + shift))):
                np.testing.assert_allclose(found, shades(_pictures(8) + np.uint8(shift + 20 * lane)), atol=1e-6)


def test_an_image_alone_is_computed_by_all_threads_once_the_rest_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino, "_WORTH_LANES_S", 0.0)
    engine = OpenVinoEngine(*_version(tmp_path), "f32", threads=2)
    at_first, checked = engine.infer, []
    np.testing.assert_allclose(at_first(_pictures(3)), shades(_pictures(3)), atol=1e-6)

    made = _noted(monkeypatch)
    engine.load_rest(checked.append)
    engine.load_rest(checked.append)  # has nothing left
    assert [shape for shape, _ in made] == [(2, 1)]
    assert checked == [engine.infer] == [made[0][1]]
    np.testing.assert_allclose(engine.infer(_pictures(3)), shades(_pictures(3)), atol=1e-6)


def test_rest_that_is_wrong_or_gone_is_not_used_and_may_be_loaded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(infer: object) -> None:
        raise EngineError("it is wrong")

    monkeypatch.setattr(openvino, "_WORTH_LANES_S", 0.0)
    folder, read = _version(tmp_path)
    engine = OpenVinoEngine(folder, read, "f32", threads=2)
    at_first = engine.infer
    with pytest.raises(EngineError, match="it is wrong"):
        engine.load_rest(refuse)
    (folder.path / "openvino").rename(folder.path / "away")
    with pytest.raises(EngineError, match="OpenVINO can't run it"):
        engine.load_rest(lambda infer: None)
    assert engine.infer is at_first
    (folder.path / "away").rename(folder.path / "openvino")
    engine.load_rest(lambda infer: None)
    assert engine.infer is not at_first


def test_small_networks_have_no_lanes_and_one_core_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino, "_WORTH_LANES_S", 60.0)
    assert OpenVinoEngine(*_version(tmp_path), "f32", threads=2).lanes == ()
    monkeypatch.setattr(openvino, "_WORTH_LANES_S", 0.0)
    assert OpenVinoEngine(*_version(tmp_path, "mugs"), "f32", threads=1).lanes == ()


def _noted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[tuple[int, int], Any]]:
    """Threads and streams of what is compiled from now on, with the first of what computes on it."""
    made: list[tuple[tuple[int, int], Any]] = []
    compiled = OpenVinoEngine._compiled

    def noted(self: OpenVinoEngine, model: ov.Model, threads: int, streams: int, *count: int) -> Any:
        found = compiled(self, model, threads, streams, *count)
        made.append(((threads, streams), found[0]))
        return found

    monkeypatch.setattr(OpenVinoEngine, "_compiled", noted)
    return made


@pytest.mark.parametrize(("worth_threads_s", "compiled"), [(60.0, [(2, 2), (1, 1)]), (0.0, [(2, 2), (1, 1), (2, 1)])])
def test_the_smallest_networks_are_computed_by_one_thread(
    worth_threads_s: float, compiled: list[tuple[int, int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = _noted(monkeypatch)
    monkeypatch.setattr(openvino, "_WORTH_LANES_S", 60.0)
    monkeypatch.setattr(openvino, "_WORTH_THREADS_S", worth_threads_s)
    engine = OpenVinoEngine(*_version(tmp_path), "f32", threads=2)
    assert [shape for shape, _ in made] == compiled
    assert engine.infer is made[-1][1]
    engine.load_rest(lambda infer: pytest.fail("there is none"))
    np.testing.assert_allclose(engine.infer(_pictures(8)), shades(_pictures(8)), atol=1e-6)


@pytest.mark.parametrize(("threads", "expected"), [(1, 1), (2, 2), (4, 4), (64, 4)])
def test_there_is_a_lane_for_each_core_up_to_four(threads: int, expected: int) -> None:
    assert (openvino.lanes(threads), lanes("openvino", threads), lanes("tensorflow", threads)) == (
        expected,
        expected,
        1,
    )


def test_version_that_cannot_be_run_is_refused(tmp_path: Path) -> None:
    without_probabilities, damaged = _version(tmp_path, "cups", "logits"), _version(tmp_path, "mugs")
    (damaged[0].path / "openvino" / "model.xml").write_text("<net>")
    without_model = publish(tmp_path, "jugs"), manifest()
    for version in (without_probabilities, damaged, without_model):
        with pytest.raises(EngineError, match="OpenVINO can't run it"):
            OpenVinoEngine(*version, "f32")


class _Core:
    def __init__(self, *capabilities: str) -> None:
        self._capabilities = list(capabilities)

    def get_property(self, device: str, name: str) -> list[str]:
        assert (device, name) == ("CPU", "OPTIMIZATION_CAPABILITIES")
        return self._capabilities


def test_bf16_is_taken_where_the_processor_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ov, "Core", lambda: _Core("FP32", "BF16"))
    assert [resolve_precision(choice) for choice in ("auto", "f32", "bf16")] == ["bf16", "f32", "bf16"]


def test_bf16_is_refused_where_the_processor_lacks_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ov, "Core", lambda: _Core("FP32", "INT8"))
    assert [resolve_precision(choice) for choice in ("auto", "f32")] == ["f32", "f32"]
    with pytest.raises(EngineError, match=r"^PRECISION=bf16 needs a processor that computes in bfloat16"):
        factory("openvino", "bf16", 1)  # before any model is loaded
