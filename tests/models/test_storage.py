"""A repository in object storage: an S3 server on loopback, and a folder, which fsspec opens the same way."""

import errno
import json
import logging
import os
import shutil
import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import fsspec
import pytest
from moto.server import ThreadedMotoServer

from models import storage as storage_module
from models.repository import InvalidVersion, ModelRepository, VersionExists
from models.storage import Mirror, StorageError, is_url, opened, upload
from tests.models.test_repository import check_all, publish, text_of


@pytest.fixture(scope="module")
def server() -> Iterator[ThreadedMotoServer]:
    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    yield running
    running.stop()


@pytest.fixture(params=["s3", "file"])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of an empty repository."""
    if request.param == "file":
        (tmp_path / "remote").mkdir()
        return f"file://{tmp_path}/remote"
    host, port = request.getfixturevalue("server").get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    fsspec.filesystem("s3").clear_instance_cache()  # or it would go on with another server's address
    bucket = f"bucket-{uuid.uuid4().hex}"
    fsspec.filesystem("s3").mkdir(bucket)
    return f"s3://{bucket}/models"


@pytest.fixture
def local(tmp_path: Path) -> ModelRepository:
    """Where versions are published before they are uploaded."""
    return ModelRepository(tmp_path / "local")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The folder that mirrors."""
    return tmp_path / "mirror"


def _wrap(monkeypatch: pytest.MonkeyPatch, **methods: Any) -> None:
    """Each method of the storage is handed the true one and its arguments."""
    opened = storage_module.opened

    class Wrapped:
        def __init__(self, storage: Any) -> None:
            self._storage = storage

        def __getattr__(self, name: str) -> Any:
            true = getattr(self._storage, name)
            return partial(methods[name], true) if name in methods else true

    def wrapped(url: str) -> tuple[Any, str]:
        storage, top = opened(url)
        return Wrapped(storage), top

    monkeypatch.setattr(storage_module, "opened", wrapped)


def _storage(url: str) -> tuple[Any, str]:
    storage, path = fsspec.url_to_fs(url)
    storage.invalidate_cache()
    return storage, path


def _put(url: str, path: str, data: bytes) -> None:
    storage, top = _storage(url)
    storage.makedirs(f"{top}/{path}".rpartition("/")[0], exist_ok=True)
    storage.pipe_file(f"{top}/{path}", data)


def _texts(root: Path) -> dict[str, str]:
    return {f"{folder.name}/{folder.version}": text_of(folder) for folder in ModelRepository(root).versions()}


def test_versions_come_are_whole_and_go(url: str, local: ModelRepository, root: Path) -> None:
    mirror = Mirror(url + "/", root)
    mirror.refresh()
    assert ModelRepository(root).versions() == []
    for name, text in (("cups", "a"), ("cups", "b"), ("mugs", "c")):
        address = upload(local, publish(local.root, text, name), url)
        assert address.startswith(f"{url}/{name}/")
    mirror.refresh()
    assert check_all(root) == [("cups", 1), ("cups", 2), ("mugs", 1)]
    assert _texts(root) == {"cups/1": "a", "cups/2": "b", "mugs/1": "c"}
    stamps = [folder.stamp for folder in ModelRepository(root).versions()]
    mirror.refresh()
    Mirror(url, root).refresh()  # as after a restart
    assert [folder.stamp for folder in ModelRepository(root).versions()] == stamps  # nothing was copied again

    storage, top = _storage(url)
    storage.rm(f"{top}/cups/1", recursive=True)
    mirror.refresh()
    assert check_all(root) == [("cups", 2), ("mugs", 1)]
    assert not list(root.glob(".staging-*"))


def test_version_that_was_replaced_is_copied_again(url: str, local: ModelRepository, root: Path) -> None:
    upload(local, publish(local.root, "a"), url)
    Mirror(url, root).refresh()
    storage, top = _storage(url)
    storage.rm(f"{top}/cups/1", recursive=True)
    shutil.rmtree(local.root)
    upload(local, publish(local.root, "longer"), url)
    Mirror(url, root).refresh()
    assert _texts(root) == {"cups/1": "longer"}
    assert check_all(root) == [("cups", 1)]


def test_version_is_not_taken_before_it_is_whole_and_said_once(
    url: str, local: ModelRepository, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = publish(local.root, "a")
    for path in ("saved_model.pb", "manifest.json"):  # an uploader of another kind, with the manifest too early
        _put(url, f"cups/1/{path}", (folder.path / path).read_bytes())
    mirror = Mirror(url, root)
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            mirror.refresh()
    assert [record.message for record in caplog.records if record.name == "models.storage"] == [
        f"{url}/cups/1 is not taken: variables/index is not there (yet)"
    ]
    assert ModelRepository(root).versions() == []
    _put(url, "cups/1/variables/index", (folder.path / "variables" / "index").read_bytes())
    mirror.refresh()
    assert check_all(root) == [("cups", 1)]


def test_version_whose_upload_broke_off_is_said_once(
    url: str, local: ModelRepository, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = publish(local.root, "a")
    _put(url, "cups/1/saved_model.pb", (folder.path / "saved_model.pb").read_bytes())
    mirror = Mirror(url, root)
    for _ in range(2):
        mirror.refresh()
    assert caplog.messages.count(f"{url}/cups/1 is not taken: manifest.json is not there (yet)") == 1
    assert ModelRepository(root).versions() == []
    upload(local, folder, url)
    mirror.refresh()
    assert check_all(root) == [("cups", 1)]


@pytest.mark.parametrize(
    ("path", "data", "why"),
    [
        ("saved_model.pb", b"other", "saved_model.pb has sha256 d9298a10d1b0…"),
        ("manifest.json", b"{", "manifest.json is invalid"),
        ("manifest.json", b"\xff", "manifest.json is invalid"),
    ],
)
def test_damaged_version_changes_nothing_and_spoils_no_other(
    path: str, data: bytes, why: str, url: str, local: ModelRepository, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    upload(local, publish(local.root, "a", "mugs"), url)
    upload(local, publish(local.root, "b"), url)
    _put(url, f"cups/1/{path}", data)
    Mirror(url, root).refresh()
    assert why in caplog.text
    assert check_all(root) == [("mugs", 1)]
    assert not list(root.glob(".staging-*"))


def test_manifest_that_leads_out_of_its_folder_is_refused(url: str, local: ModelRepository, root: Path) -> None:
    folder = publish(local.root, "a")
    manifest = json.loads((folder.path / "manifest.json").read_text())
    manifest["files"]["../../../escaped"] = manifest["files"]["saved_model.pb"]
    upload(local, folder, url)
    _put(url, "cups/1/manifest.json", json.dumps(manifest).encode())
    Mirror(url, root).refresh()
    assert ModelRepository(root).versions() == []


def test_name_that_leads_out_of_the_mirror_is_refused_and_said_once(
    url: str, local: ModelRepository, root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Object storage has no folders: '..' is a name there like any other."""
    upload(local, publish(local.root, "a"), url)
    root.mkdir()
    (root.parent / "labels.json").write_text("{}")

    def found(find: Any, top: str, **options: Any) -> dict[str, Any]:
        listing: dict[str, Any] = find(top, **options)
        elsewhere = {path.replace("/cups/", f"/{name}/"): listing[path] for path in listing for name in ("..", ".cups")}
        return listing | elsewhere

    _wrap(monkeypatch, find=found, cat_file=lambda cat, path: cat(path.replace("/../", "/cups/")))
    mirror = Mirror(url, root)
    for _ in range(2):
        mirror.refresh()
    assert check_all(root) == [("cups", 1)]
    assert not (root.parent / "1").exists()
    assert (root.parent / "labels.json").exists()
    refused = [record.message for record in caplog.records if record.levelname == "ERROR"]
    assert [message.partition(" is not taken")[0] for message in refused] == [f"{url}/../1", f"{url}/.cups/1"]


def test_version_that_another_process_has_just_copied_is_left_alone(
    url: str, local: ModelRepository, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(local, publish(local.root, "a"), url)
    stamps = []

    def meanwhile(get: Any, sources: list[str], targets: list[str]) -> None:
        if not stamps:
            stamps.append(None)
            Mirror(url, root).refresh()
            stamps[:] = [folder.stamp for folder in ModelRepository(root).versions()]
        get(sources, targets)

    _wrap(monkeypatch, get=meanwhile)
    Mirror(url, root).refresh()
    assert [folder.stamp for folder in ModelRepository(root).versions()] == stamps
    assert len(stamps) == 1


def test_storage_that_is_empty_all_at_once_or_out_of_reach_takes_nothing_away(
    url: str, local: ModelRepository, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(local, publish(local.root, "a"), url)
    mirror = Mirror(url, root)
    mirror.refresh()
    storage, top = _storage(url)
    storage.rm(f"{top}/cups", recursive=True)
    with pytest.raises(StorageError, match="holds no versions all at once; what was copied before is kept"):
        mirror.refresh()

    def denied(*_: object, **__: object) -> None:
        raise PermissionError("Access Denied")

    _wrap(monkeypatch, find=denied)
    with pytest.raises(StorageError, match="can't be read: PermissionError: Access Denied"):
        mirror.refresh()
    assert check_all(root) == [("cups", 1)]


def test_transfer_that_breaks_leaves_the_version_for_the_next_time(
    url: str, local: ModelRepository, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(local, publish(local.root, "a"), url)

    def broken(get: Any, sources: list[str], targets: list[str]) -> None:
        get(sources[:1], targets[:1])
        raise ConnectionResetError("in the middle")

    with monkeypatch.context() as patched:
        _wrap(patched, get=broken)
        Mirror(url, root).refresh()
    assert ModelRepository(root).versions() == []
    assert not list(root.glob(".staging-*"))
    Mirror(url, root).refresh()
    assert check_all(root) == [("cups", 1)]


def test_folder_that_is_full_is_named(
    local: ModelRepository,
    tmp_path: Path,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As /dev/shm is, of which containers have 64 MB: it is not the storage that can't be read."""
    url = f"file://{tmp_path}/remote"
    upload(local, publish(local.root, "a"), url)

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    _wrap(monkeypatch, get=full)
    Mirror(url, root).refresh()
    assert f"/cups/1 is not taken: there is no room for it in {root}" in caplog.text


def test_copy_that_was_damaged_while_nobody_looked_is_made_again(
    url: str, local: ModelRepository, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    upload(local, publish(local.root, "a"), url)
    Mirror(url, root).refresh()
    (copy,) = ModelRepository(root).versions()
    (copy.path / "saved_model.pb").write_bytes(b"broken")

    Mirror(url, root).refresh()  # as after a restart

    assert check_all(root) == [("cups", 1)]
    assert any("it is copied again" in record.message for record in caplog.records)


def test_address_without_versions_is_said_once(
    url: str, root: Path, local: ModelRepository, caplog: pytest.LogCaptureFixture
) -> None:
    mirror = Mirror(url, root)
    for _ in range(2):
        mirror.refresh()
    said = [record.message for record in caplog.records if record.name == "models.storage"]
    assert said == [f"{url} holds no versions (yet)"]
    upload(local, publish(local.root, "a"), url)
    mirror.refresh()
    assert check_all(root) == [("cups", 1)]


def test_labels_are_mirrored(url: str, local: ModelRepository, root: Path) -> None:
    for text in "ab":
        upload(local, publish(local.root, text), url)
    mirror, copy = Mirror(url, root), ModelRepository(root)
    for labels in ({"stable": 1}, {"stable": 2, "canary": 1}):
        _put(url, "cups/labels.json", json.dumps(labels).encode())
        mirror.refresh()
        assert copy.labels("cups") == labels
    storage, top = _storage(url)
    storage.rm(f"{top}/cups/labels.json")
    mirror.refresh()
    assert copy.labels("cups") == {}


def test_upload_writes_the_manifest_last_and_overwrites_nothing(
    url: str, local: ModelRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = publish(local.root, "a")
    put: list[str] = []

    def noted(put_file: Any, source: str, target: str) -> None:
        put.append(target.rpartition("/")[2])
        put_file(source, target)

    _wrap(monkeypatch, put_file=noted)
    upload(local, folder, url)
    assert put == ["saved_model.pb", "index", "manifest.json"]
    upload(local, folder, url)  # the same once more
    shutil.rmtree(local.root)
    with pytest.raises(VersionExists, match=r"cups/1 exists, and is another one; versions are never overwritten"):
        upload(local, publish(local.root, "b"), url)
    other = publish(local.root, "c")
    (other.path / "saved_model.pb").write_text("changed")
    with pytest.raises(InvalidVersion, match=r"saved_model\.pb has sha256"):
        upload(local, other, url)


def test_missing_bucket_and_wrong_address_are_told(
    server: ThreadedMotoServer, local: ModelRepository, root: Path, url: str
) -> None:
    if url.startswith("s3"):
        with pytest.raises(StorageError, match="s3://no-such-bucket/x can't be read"):
            Mirror("s3://no-such-bucket/x", root).refresh()
        folder = publish(local.root, "a")
        with pytest.raises(StorageError, match="s3://no-such-bucket/x/cups/1 can't be written: FileNotFoundError"):
            upload(local, folder, "s3://no-such-bucket/x")
        assert not fsspec.filesystem("s3").exists("no-such-bucket")
    with pytest.raises(StorageError, match="nope://x"):
        Mirror("nope://x", root).refresh()


def test_missing_packages_are_told_with_the_command_that_installs_them(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(url: str) -> None:
        raise ImportError("Install gcsfs to access Google Storage")

    monkeypatch.setattr(fsspec, "url_to_fs", missing)
    with pytest.raises(StorageError, match=r"^gs:// needs packages that are not here: pip install '\.\[gcs\]'$"):
        Mirror("gs://bucket/models", root).refresh()


def test_what_is_an_address() -> None:
    assert [is_url(one) for one in ("s3://b", "file:///x", "models", "/opt/ml/model", "C:\\models")] == [
        True,
        True,
        False,
        False,
        False,
    ]


def test_google_s_zonal_buckets_are_for_who_asks_for_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"
    monkeypatch.setenv(name, "true")
    opened(tmp_path.as_uri())
    assert os.environ[name] == "true"
    monkeypatch.delenv(name)
    opened(tmp_path.as_uri())
    assert os.environ[name] == "false"
