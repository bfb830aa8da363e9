"""Pictures in JSON: files or pixels, bare or named; anything else is told apart by its place."""

import base64
from typing import Any

import numpy as np
import pytest

from app.api.protocols.instances import pictures
from app.errors import DemitasseError

B64 = {"b64": base64.b64encode(b"file").decode()}


@pytest.mark.parametrize("instance", [B64, {"images": B64}, {"image_bytes": B64}])
def test_file_may_stand_bare_or_under_any_name(instance: Any) -> None:
    assert pictures([instance], "instances") == [b"file"]


def test_pixels_become_an_array_of_their_shape() -> None:
    (found,) = pictures([[[[0, 127, 255]], [[1, 2, 3]]]], "instances")
    assert isinstance(found, np.ndarray)
    assert (found.dtype, found.tolist()) == (np.uint8, [[[0, 127, 255]], [[1, 2, 3]]])


@pytest.mark.parametrize("instances", [None, {}, "text", 1, []])
def test_what_is_no_list_of_instances_is_refused(instances: Any) -> None:
    with pytest.raises(DemitasseError) as error:
        pictures(instances, "instances")
    assert error.value.message.startswith("'instances': expected a list of instances, got ")


@pytest.mark.parametrize(
    "instance",
    [
        None,
        True,
        7,
        "text",
        {},
        {"b64": 1},
        {"b64": None},
        {"b64": "§"},
        {"b64": "=", "images": []},
        {"images": {"images": B64}},
        {"images": B64, "key": "1"},
        [],
        [[]],
        [B64],
        ["1"],
        [1.5],
        [True],
        [None],
        [256],
        [-1],
        [10**30],
        [float("nan")],
        [[1], [2, 3]],
    ],
    ids=repr,
)
def test_what_is_no_picture_is_refused_by_its_place(instance: Any) -> None:
    with pytest.raises(DemitasseError) as error:
        pictures([B64, instance], "instances")
    assert error.value.status in (400, 422)
    assert error.value.message.startswith("instances[1]: ")
    assert len(error.value.message) < 250
