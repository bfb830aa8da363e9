"""What a row of the output says of a picture, in the words of `POST /predict`."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from app.errors import DemitasseError
from app.inference.rank import Prediction, Ranking

Row = dict[str, Any]

_PREDICTION = (("label", pa.string()), ("class_id", pa.int32()), ("confidence", pa.float64()))


def schema(*, ranked: bool) -> pa.Schema:
    """The columns; with `predictions`, the top k, where those are wanted. What an error leaves open is null."""
    columns = [
        ("path", pa.string()),
        *_PREDICTION,
        ("reliable", pa.bool_()),
        ("prediction_set", pa.list_(pa.string())),
        ("error", pa.struct([("code", pa.string()), ("message", pa.string())])),
        ("model", pa.string()),
        ("version", pa.int32()),
    ]
    if ranked:
        columns.insert(6, ("predictions", pa.list_(pa.struct(_PREDICTION))))
    return pa.schema(columns)


def of_ranking(ranking: Ranking) -> Row:
    predictions = [_of_prediction(one) for one in ranking.predictions]
    return {
        **predictions[0],
        "reliable": ranking.reliable,
        "prediction_set": ranking.prediction_set,
        "predictions": predictions,
    }


def of_error(code: str, message: str) -> Row:
    return {"error": {"code": code, "message": message}}


def table(rows: Sequence[Row], schema: pa.Schema) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema)


def as_error(error: Exception) -> tuple[str, str]:
    """Code and message. Whatever is wrong with a picture, it is this picture's alone."""
    if isinstance(error, DemitasseError):
        return error.code, error.message
    return DemitasseError.code, f"{type(error).__name__}: {error}"


def _of_prediction(prediction: Prediction) -> Row:
    return {
        "label": prediction.label,
        "class_id": prediction.class_id,
        "confidence": round(min(max(prediction.confidence, 0.0), 1.0), 6),
    }
