"""What a version says about itself: `manifest.json`, parsed into frozen objects that reject what they don't know."""

import hashlib
import math
from datetime import datetime
from pathlib import PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

SCHEMA_VERSION: Literal[1] = 1
MANIFEST_FILE = "manifest.json"
GOLDEN_FILE = "golden.npz"

MODEL_NAME = r"[a-z0-9][a-z0-9_-]{0,63}"

ModelName = Annotated[str, StringConstraints(pattern=f"^{MODEL_NAME}$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Precision = Literal["f32", "bf16"]
PRECISIONS: tuple[Precision, ...] = ("f32", "bf16")


class Part(BaseModel):
    """Of a manifest: frozen, and refusing what it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class InputSpec(Part):
    """How a picture becomes the model's input, uint8 [height, width, 3] in RGB.

    `crop` cuts the largest centred rectangle of the target's aspect ratio, scaled by `crop_fraction`, and resizes
    it; `stretch` resizes the whole picture and needs a `crop_fraction` of 1.
    """

    height: int = Field(ge=1, le=4096)
    width: int = Field(ge=1, le=4096)
    resize: Literal["crop", "stretch"] = "crop"
    crop_fraction: float = Field(default=1.0, gt=0.0, le=1.0)
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"

    @model_validator(mode="after")
    def _stretch_uses_the_whole_picture(self) -> Self:
        if self.resize == "stretch" and self.crop_fraction != 1.0:
            raise ValueError("crop_fraction must be 1 where resize is 'stretch'")
        return self


class Label(Part):
    """One class. `id` is its identifier in the source's vocabulary (for ImageNet: WordNet), where there is one."""

    name: str = Field(min_length=1)
    id: str | None = None


class Architecture(Part):
    name: str
    parameters: int = Field(ge=1, description="all parameters, trainable or not, as Keras counts them")


class Metric(Part):
    """One figure with the data that it was read on. `low` and `high` bound its 95 % interval."""

    name: str
    value: float
    low: float
    high: float
    interval: str = Field(description="how the interval was made, such as 'wilson' or 'bootstrap'")
    n: int = Field(ge=1)
    dataset: str

    @model_validator(mode="after")
    def _interval_holds_the_value(self) -> Self:
        if not self.low <= self.value <= self.high:
            raise ValueError(f"the interval {self.low} to {self.high} of {self.name} leaves out its value {self.value}")
        return self


class ReliabilityBin(Part):
    """Mean confidence and accuracy of the `n` examples whose confidence lies in one bin of equal width."""

    confidence: Fraction
    accuracy: Fraction
    n: int = Field(ge=1)


class Calibration(Part):
    """The temperature inside the graph, and how well confidence matched accuracy before and after it.

    With `method` 'none' nothing was fitted: the temperature is 1 and there are no figures.
    """

    method: Literal["temperature", "none"]
    temperature: float = Field(default=1.0, gt=0.0)
    fitted_on: str | None = None
    n: int | None = Field(default=None, ge=1)
    before: tuple[Metric, ...] = ()
    after: tuple[Metric, ...] = ()
    reliability: tuple[ReliabilityBin, ...] = Field(
        default=(), description="of 15 bins of the data of `after`, those that are not empty: the reliability diagram"
    )

    @model_validator(mode="after")
    def _no_method_means_nothing_fitted(self) -> Self:
        if self.method == "none" and (self.temperature != 1.0 or self.n is not None):
            raise ValueError("a calibration of method 'none' has temperature 1 and no n")
        return self


class Abstention(Part):
    """Predictions whose top confidence is at least `threshold` can be relied on.

    They are wrong at a rate of at most `target_risk`; this holds with probability `confidence_level` over the draw of
    the `n` examples that the threshold was chosen on.
    """

    threshold: Fraction
    target_risk: Fraction
    confidence_level: Fraction
    coverage: Fraction = Field(description="share of the n examples at or above the threshold")
    n: int = Field(ge=1)
    dataset: str


class Conformal(Part):
    """The prediction set: the classes whose score `1 - probability` is at most `quantile`.

    It holds the true class with probability `1 - alpha` or more (split conformal prediction, score LAC: Sadinle et al.
    2019).
    """

    score: Literal["lac"] = "lac"
    alpha: float = Field(gt=0.0, lt=1.0)
    quantile: Fraction
    n: int = Field(ge=1)
    dataset: str


class Decision(Part):
    """Either part is null where the data did not allow it, or where there was none."""

    abstention: Abstention | None = None
    conformal: Conformal | None = None


class Pretrained(Part):
    source: str
    licence: str
    sha256: Sha256


class SplitRecord(Part):
    """`sha256` is over the split's pixels and labels, in order."""

    n: int = Field(ge=1)
    sha256: Sha256


class DatasetRecord(Part):
    name: str
    source: str
    splits: dict[str, SplitRecord]


class Provenance(Part):
    """Where a version comes from: enough to make it again."""

    recipe: str
    settings: dict[str, object] = Field(description="the recipe's values as they were used")
    git_commit: str | None
    seed: int | None
    dataset: DatasetRecord | None
    pretrained: Pretrained | None
    libraries: dict[str, str]
    device: str
    wall_seconds: float = Field(ge=0.0)


class Manifest(Part):
    """A whole `manifest.json`. `files` maps each file of the folder, but the manifest, to its checksum."""

    schema_version: Literal[1] = SCHEMA_VERSION
    name: ModelName
    version: int = Field(ge=1)
    description: str
    created_at: datetime
    architecture: Architecture
    input: InputSpec
    labels: tuple[Label, ...] = Field(min_length=2)
    calibration: Calibration
    decision: Decision
    metrics: tuple[Metric, ...]
    provenance: Provenance
    golden_tolerance: dict[Precision, float] = Field(
        description="largest absolute difference of a probability from golden.npz at which a version is accepted"
    )
    files: dict[str, Sha256]

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the checksums of its files: tells it from another version of the same name and number."""
        lines = sorted(f"{sha256} {path}\n" for path, sha256 in self.files.items())
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    @model_validator(mode="after")
    def _files_stay_in_the_folder(self) -> Self:
        for path in self.files:
            plain = PurePosixPath(path)  # one spelling for each file: no './', '//' or '/' at the end
            stays = str(plain) == path and not plain.is_absolute() and ".." not in plain.parts
            if not stays or path in (".", MANIFEST_FILE) or "\\" in path or "\0" in path:
                raise ValueError(f"'{path}' is no path of a file inside the version folder")
        return self

    @model_validator(mode="after")
    def _tolerances_cover_every_precision(self) -> Self:
        for precision in PRECISIONS:
            tolerance = self.golden_tolerance.get(precision, math.nan)
            if not 0.0 < tolerance < 1.0:
                raise ValueError(f"golden_tolerance needs a value between 0 and 1 for {precision}")
        return self


def first_error(error: ValidationError) -> str:
    """One line on what is wrong with a document, and how much more there is."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"]) or "the document"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{where}: {first['msg']}{more}"
