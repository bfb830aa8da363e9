"""Dockerfile.gpu and docker-compose.yml, tried without Docker.

The steps of the Dockerfile are run as they stand there, in a folder that takes the place of the image's root: the same
RUN commands, the files that COPY copies, the environment of ENV, then ENTRYPOINT, HEALTHCHECK and STOPSIGNAL. Only what
a container engine does itself is left out: the base image (this Python stands in for its Python), USER, and the file
system's being read-only, for which a limit on the size of written files stands in.
"""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import httpx
import pytest
import yaml

from app.settings import Settings

ROOT = Path(__file__).parents[1]
PATIENCE_S = 60.0  # against hanging for ever; no promise about speed

Step = tuple[str, str]
Snapshot = dict[Path, tuple[int, int]]


# Dockerfile.gpu and .dockerignore, read


def steps() -> list[Step]:
    """Keyword and arguments of each instruction."""
    lines = [line for line in (ROOT / "Dockerfile.gpu").read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", "")
    return [
        (keyword, arguments.strip()) for keyword, _, arguments in (x.partition(" ") for x in joined.split("\n") if x)
    ]


def arguments_of(keyword: str) -> list[str]:
    return [arguments for found, arguments in steps() if found == keyword]


def stages() -> list[list[Step]]:
    """The instructions of each stage, from its FROM on."""
    found: list[list[Step]] = []
    for step in steps():
        if step[0] == "FROM":
            found.append([])
        if found:
            found[-1].append(step)
    return found


def copied(instructions: list[Step]) -> list[str]:
    """Every source outside the image that COPY names."""
    names = [arguments.split() for keyword, arguments in instructions if keyword == "COPY"]
    return [source for *sources, _ in names for source in sources if not sources[0].startswith("--from=")]


def is_sent(path: str) -> bool:
    """Whether .dockerignore lets the builder have that file: the last pattern decides that fits it or a parent."""
    sent = True
    names = [path, *(str(parent) for parent in PurePosixPath(path).parents)][:-1]  # the last one is '.'
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.strip()
        if pattern and not pattern.startswith("#"):
            expression = re.compile(_pattern_to_regex(pattern.removeprefix("!").strip("/")))
            if any(expression.fullmatch(name) for name in names):
                sent = pattern.startswith("!")
    return sent


def _pattern_to_regex(pattern: str) -> str:
    tokens = {"**/": "(.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return "".join(tokens.get(token, re.escape(token)) for token in re.split(r"(\*\*/|\*\*|\*|\?)", pattern))


# The image, made and started


@dataclass
class Image:
    """What the Dockerfile makes. A folder stands for the root of each stage; the last one's is the image's."""

    folder: Path
    build_args: dict[str, str]
    root: Path = Path("/")
    global_args: dict[str, str] = field(default_factory=dict)
    roots: dict[str, Path] = field(default_factory=dict)
    args: dict[str, str] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    workdir: Path = Path("/")
    entrypoint: list[str] = field(default_factory=list)
    healthcheck: list[str] = field(default_factory=list)

    def build(self) -> "Image":
        for keyword, arguments in steps():
            self._step(keyword, arguments)
        return self

    def _begin(self, base: str, name: str) -> None:
        """A stage knows nothing of the one before it."""
        if not self.roots:
            self.global_args = self.args
        assert _expand(base, self.global_args).startswith("python:3."), base
        self.root = self.roots[name] = self.folder / (name or "image")
        self.args, self.workdir = {}, self.root
        stand_in = self.root / "usr/local/bin/python"
        stand_in.parent.mkdir(parents=True)
        stand_in.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
        stand_in.chmod(0o755)
        self.env = {"PATH": f"{stand_in.parent}:/usr/bin:/bin"}

    def _step(self, keyword: str, arguments: str) -> None:
        match keyword:
            case "FROM":
                base, _, name = arguments.partition(" AS ")
                self._begin(base, name)
            case "ARG":
                name, _, default = arguments.partition("=")
                self.args[name] = self.build_args.get(name, default)
            case "ENV":
                pairs = (pair.partition("=") for pair in shlex.split(arguments))
                self.env |= {name: _expand(self._inside(value), self.args | self.env) for name, _, value in pairs}
            case "WORKDIR":
                self.workdir = Path(self._inside(arguments))
                self.workdir.mkdir(parents=True)
            case "COPY":
                self._copy(*arguments.split())
            case "RUN":
                self._run(arguments)
            case "ENTRYPOINT":
                self.entrypoint = json.loads(arguments)
            case "HEALTHCHECK":
                self.healthcheck = json.loads(arguments.partition(" CMD ")[2])
            case "USER" | "EXPOSE" | "STOPSIGNAL" | "LABEL":
                pass  # nothing to do for them; what they say is looked at by tests of their own
            case _:
                pytest.fail(f"this test can't run the instruction {keyword} {arguments}")

    def _inside(self, text: str) -> str:
        """Paths of the image become paths below the root."""
        return re.sub(r"(?<![\w.])/(?=(build$|(opt|srv)/))", f"{self.root}/", text)

    def _copy(self, *names: str) -> None:
        *sources, target = names
        if sources[0].startswith("--from="):
            (source,) = sources[1:]
            origin = self.roots[sources[0].removeprefix("--from=")] / source.lstrip("/")
            # Links, for it is hundreds of megabytes, and nothing writes to either side any more
            shutil.copytree(origin, self.root / target.lstrip("/"), symlinks=True, copy_function=os.link)
            return
        for source in sources:
            folder = ROOT / source
            for file in folder.rglob("*") if folder.is_dir() else [folder]:
                if file.is_file() and is_sent(file.relative_to(ROOT).as_posix()):
                    copy = self.workdir / target / (file.relative_to(folder) if folder.is_dir() else file.name)
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(file, copy)

    def _run(self, command: str) -> None:
        # The cache outlives builds, as this machine's own does; it lies where pip looks for it
        command = re.sub(r"^--mount=type=cache,target=/root/\.cache/pip\s", "", command)
        assert not command.startswith("--"), f"this test can't run RUN {command}"
        # Outside, pip is told by its environment where its index is
        env = {**os.environ, **self.args, **self.env}
        shell = ["sh", "-c", self._inside(command)]
        done = subprocess.run(shell, check=False, cwd=self.workdir, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr

    def execute(self, command: list[str], **env: str) -> "subprocess.Popen[str]":
        """Start a command as an engine would: its environment is the image's alone, and no file can be written."""
        return subprocess.Popen(
            ["/bin/sh", "-c", 'ulimit -f 0; exec "$@"', "sh", *command],
            cwd=self.workdir,
            env={"HOME": str(self.root)} | self.env | env,  # as for any user that /etc/passwd does not know
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def snapshot(self) -> Snapshot:
        found = ((path, path.lstat()) for path in self.root.rglob("*"))
        return {path: (stat.st_size, stat.st_mtime_ns) for path, stat in found}


def _expand(text: str, known: dict[str, str]) -> str:
    return re.sub(r"\$\{(\w+)\}", lambda match: known[match[1]], text)


class Container:
    """A run of the image. HOST alone is set otherwise: nobody outside shall reach a test."""

    def __init__(self, image: Image, *arguments: str, **env: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = str(probe.getsockname()[1])
        self.image = image
        self.env = {"HOST": "127.0.0.1", "PORT": port, **env}
        self.process = image.execute([*image.entrypoint, *arguments], **self.env)
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_S, trust_env=False)

    def wait_for(self, path: str) -> "Container":
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline and self.process.poll() is None:
            with suppress(httpx.TransportError):
                if self.http.get(path).status_code == 200:
                    return self
            time.sleep(0.05)
        pytest.fail(f"{path} did not answer 200; exit code {self.process.poll()}:\n{self.stop(signal.SIGKILL)}")

    def checks(self) -> list[int]:
        """Exit codes of the health checks inside the container: the image's, then that of compose's services."""
        probes = [
            self.image.execute(command, **self.env) for command in (self.image.healthcheck, compose_healthcheck())
        ]
        try:
            for probe in probes:
                probe.communicate(timeout=PATIENCE_S)
        finally:
            for probe in probes:
                probe.kill()
        return [probe.returncode for probe in probes]

    def stop(self, sig: int) -> str:
        """The log."""
        self.http.close()
        self.process.send_signal(sig)
        try:
            return self.process.communicate(timeout=PATIENCE_S)[0]
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    """The one for CPUs; that for GPUs differs in gigabytes of wheels."""
    root = tmp_path_factory.mktemp("image")
    yield Image(root, {"EXTRA": "openvino"}).build()
    shutil.rmtree(root)


@pytest.fixture
def run(image: Image) -> Iterator[Callable[..., Container]]:
    started: list[Container] = []

    def run_one(*arguments: str, **env: str) -> Container:
        started.append(Container(image, *arguments, **env))
        return started[-1]

    yield run_one
    for container in started:
        if container.process.poll() is None:
            container.stop(signal.SIGKILL)


def test_image_recognises_a_picture_writes_nothing_and_exits_0_on_its_stop_signal(image: Image, run) -> None:
    before = image.snapshot()
    container = run(DRAIN_DELAY_S="0").wait_for("/health/ready")
    picture = (ROOT / "tests" / "pictures" / "espresso_cup.jpg").read_bytes()
    answer = container.http.post("/predict", files={"file": picture}).json()
    assert answer["predictions"][0]["label"] == "espresso"
    assert container.checks() == [0, 0]
    log = container.stop(getattr(signal, arguments_of("STOPSIGNAL")[0]))
    assert container.process.returncode == 0, log
    assert container.checks() == [1, 1]
    assert image.snapshot() == before


def test_without_a_model_the_image_is_healthy_and_the_services_of_compose_are_not(run, tmp_path: Path) -> None:
    """Told to serve as SageMaker does, and where a company's Docker sets a proxy, which no health check asks."""
    proxy = "http://127.0.0.1:9"  # nobody listens there
    container = run("serve", MODEL_REPOSITORY=str(tmp_path), http_proxy=proxy, HTTP_PROXY=proxy)
    assert container.wait_for("/health/live").checks() == [0, 1]


def test_image_holds_the_service_and_its_models_and_nothing_else(image: Image) -> None:
    held = {path.relative_to(image.workdir).as_posix() for path in image.workdir.rglob("*") if path.is_file()}
    assert {name.split("/")[0] for name in held} == set(copied(stages()[-1]))
    assert {"app/__main__.py", "models/manifest.py", "models/imagenet/1/manifest.json", "LICENSE", "NOTICE"} <= held
    assert "app/web/index.html" in held
    sources = {name.removesuffix(".py") for name in held if name.endswith(".py")}
    compiled = {re.sub(r"__pycache__/(\w+)\.[\w-]+\.pyc$", r"\1", name) for name in held if "__pycache__" in name}
    assert compiled == sources


def test_image_for_cpus_has_neither_tensorflow_nor_tools_of_development(image: Image) -> None:
    wanted = ["app", "models", "openvino"]
    names = [*wanted, "tensorflow", "keras", "training", "tests", "pytest", "pip"]
    code = f"from importlib.util import find_spec; print(*(name for name in {names} if find_spec(name)))"
    found, _ = image.execute(["python", "-c", code]).communicate(timeout=PATIENCE_S)
    assert found.split() == wanted


def test_image_for_cpus_stays_under_500_mb_with_its_base(image: Image) -> None:
    base = 130e6  # python:3.12-slim-bookworm, unpacked
    stage = (path.stat().st_size for folder in ("opt", "srv") for path in (image.root / folder).rglob("*"))
    assert sum(stage) + base < 500e6


# What the Dockerfile says


def test_hadolint_finds_nothing(tmp_path: Path) -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    command = [hadolint, "--failure-threshold", "style", "--disable-ignore-pragma", ROOT / "Dockerfile.gpu"]
    # Elsewhere, so that no configuration file is found that lets things pass
    env = {"HOME": str(tmp_path)}
    done = subprocess.run(command, check=False, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_dependencies_are_installed_where_a_change_of_the_code_is_not_seen() -> None:
    dependencies, _ = stages()
    assert copied(dependencies) == ["pyproject.toml", "constraints.txt", "LICENSE", "NOTICE"]
    assert [keyword for keyword, _ in dependencies].count("RUN") == 1


def test_image_is_made_of_copies_of_which_the_ones_that_change_least_come_first_and_compiled() -> None:
    *_, image = stages()
    assert [text.split()[-2] for keyword, text in image if keyword == "COPY"] == [
        "/opt/venv",
        "NOTICE",
        "models",
        "app",
    ]
    steps = [keyword for keyword, _ in image if keyword in ("COPY", "RUN")]
    assert steps == ["COPY"] * 4 + ["RUN"]


def test_base_is_pinned_to_a_release() -> None:
    assert re.fullmatch(r"BASE=python:3\.\d+\.\d+-slim-\w+", arguments_of("ARG")[0])
    assert [text.split()[0] for text in arguments_of("FROM")] == ["${BASE}", "${BASE}"]


def test_process_is_an_unprivileged_user_by_number() -> None:
    user, group = arguments_of("USER")[-1].split(":")
    assert int(user) > 0
    assert int(group) > 0


def test_image_listens_on_the_exposed_port_of_every_address(image: Image) -> None:
    assert image.env["HOST"] == "0.0.0.0"
    assert [image.env["PORT"]] == arguments_of("EXPOSE")


def test_labels_say_what_pyproject_says() -> None:
    labels = dict(pair.split("=", 1) for pair in shlex.split(arguments_of("LABEL")[0]))
    project = pyproject()["project"]
    assert labels["org.opencontainers.image.version"] == project["version"]
    assert labels["org.opencontainers.image.description"] == project["description"]
    assert labels["org.opencontainers.image.licenses"] == project["license"]


def test_builder_is_sent_all_that_is_copied() -> None:
    for source in copied(steps()):
        assert (ROOT / source).exists(), source
        assert is_sent(source), source
    assert is_sent("models/imagenet/1/variables/variables.index")
    assert is_sent("app/web/samples/cat.webp")


@pytest.mark.parametrize(
    "path",
    [
        ".git/config",
        ".venv/bin/python",
        ".env",
        "app/.env",
        "app/__pycache__/main.cpython-312.pyc",
        "benchmarks/load.py",
        "data/cifar10.tar.gz",
        "models/.staging-1/manifest.json",
        "runs/1/history.json",
        "tests/test_docker.py",
        "training/run.py",
    ],
)
def test_builder_is_not_sent(path: str) -> None:
    assert not is_sent(path)


# docker-compose.yml


def compose() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text())


def built() -> dict[str, Any]:
    """The services of compose that are ours."""
    return {name: service for name, service in compose()["services"].items() if "build" in service}


def compose_healthcheck() -> list[str]:
    (kind, *command), other = (service["healthcheck"]["test"] for service in built().values())
    assert kind == "CMD"
    assert [kind, *command] == other
    return command


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_compose_file_follows_the_compose_specification() -> None:
    command = [str(Path(sys.executable).with_name("check-jsonschema")), "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*command, "docker-compose.yml"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_compose_starts_the_cpu_alone_unless_asked_for_more() -> None:
    services = compose()["services"]
    assert {name: service.get("profiles", []) for name, service in services.items()} == {
        "cpu": [],
        "gpu": ["gpu"],
        "prometheus": ["monitoring"],
        "grafana": ["monitoring"],
    }
    assert services["gpu"]["deploy"]["resources"]["reservations"]["devices"][0]["driver"] == "nvidia"


def test_services_of_compose_can_run_side_by_side() -> None:
    published = [port.split(":")[-2] for service in compose()["services"].values() for port in service["ports"]]
    assert len(set(published)) == len(published)
    assert {port.split(":")[1] for service in built().values() for port in service["ports"]} == set(
        arguments_of("EXPOSE")
    )


def test_services_of_compose_install_extras_that_there_are() -> None:
    extras = {name: service["build"]["args"]["EXTRA"] for name, service in built().items()}
    assert extras == {"cpu": "openvino", "gpu": "gpu"}
    assert {*extras.values(), "gpu"} <= pyproject()["project"]["optional-dependencies"].keys()
    assert "EXTRA=gpu" in arguments_of("ARG")


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_service_of_compose_has_no_rights_it_does_not_need(name: str) -> None:
    service = compose()["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert [mount["read_only"] for mount in service["volumes"]] == [True]


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_service_of_compose_serves_the_mounted_models(name: str) -> None:
    service = compose()["services"][name]
    (mount,) = service["volumes"]
    assert (ROOT / mount["source"]).is_dir()
    assert service["environment"] == {"MODEL_REPOSITORY": mount["target"]}
    assert "model_repository" in Settings.model_fields


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_grace_period_of_compose_lets_the_service_drain(name: str) -> None:
    grace_s = float(compose()["services"][name]["stop_grace_period"].removesuffix("s"))
    fields = Settings.model_fields
    assert grace_s > fields["drain_delay_s"].default + fields["drain_timeout_s"].default
