"""The command line answers mistakes with one line, before anything is computed."""

from types import SimpleNamespace

import pytest

from training.__main__ import main


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "mnits"], "no recipe 'mnits'; there are caltech101, "),
        (["run", "mnist", "--epochs", "0"], "epochs: Input should be greater than or equal to 1, got 0"),
        (["run", "mnist", "--seed", "-1"], "seed: Input should be greater than or equal to 0, got -1"),
        (["run", "mnist", "--data", "/nowhere"], "there is no file mnist.npz at /nowhere"),
        (["run", "mnist", "--architecture", "ResNet"], "architecture: Value error, expected one of airbench, "),
        (["run", "mnist", "--weights", "x.npz"], "mnist starts from random weights; leave --weights out"),
        (["run", "caltech101", "--views", "6"], "this recipe has no views; it has model, description, dataset, "),
        (["run", "caltech101", "--architecture", "vgg16"], "backbone: Input should be 'efficientnet_lite0', "),
        (["run", "caltech101", "--strategy", "mirrored"], "caltech101 trains on one device; leave --strategy out"),
        (["run", "caltech101", "--data", "/nowhere"], "caltech101.tar is missing: neither the file nor a folder with "),
        (["photos", "/nowhere", "--name", "Pets"], "model: String should match pattern "),
        (["photos", "/nowhere", "--name", "pets", "--batch-size", "9"], "--batch-size is one of fine-tuning: give "),
        (["photos", "/nowhere", "--name", "pets", "--backbone", "vgg16"], "backbone: Input should be 'efficientnet_"),
        (["photos", "/nowhere", "--name", "pets"], "there is no folder /nowhere; expected one that holds a folder of "),
        (["compare", "/nowhere"], "/nowhere holds no figures of a run: "),
        (["evaluate", "cat"], "no version cat in "),
        (["evaluate", "minute/7"], "no version minute/7 in "),
        (["evaluate", "minute/latest"], "expected NAME or NAME/VERSION with a whole number, got 'minute/latest'"),
        (["evaluate", "minute", "--photos", "/nowhere"], "/nowhere holds no pictures in folders named after classes"),
        (
            ["evaluate", "minute"],
            "minute was published with quarters, made up, which is no data set known here; "
            "give pictures to measure it on with --photos FOLDER\n",
        ),
        (["import-imagenet", "--weights", "/nowhere.npz"], "/nowhere.npz can't be read as an .npz file"),
    ],
)
def test_a_mistake_is_answered_with_one_line_and_exit_code_1(
    minute: SimpleNamespace, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    code = main(["--models", str(minute.repository.root), *arguments])

    output = capsys.readouterr()
    assert (code, output.out) == (1, "")
    assert output.err.startswith(f"error: {message}")
    assert output.err.count("\n") == 1
