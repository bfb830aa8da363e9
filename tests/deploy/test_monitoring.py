"""deploy/monitoring: what alerts and panels ask for is what the service tells, and Prometheus takes it."""

import json
import re
import shutil
import socket
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.app.conftest import FakeEngine, png, publish, serving
from tests.deploy.conftest import DEPLOY, ROOT
from tests.e2e.service import PATIENCE_S, Service

MONITORING = DEPLOY / "monitoring"
DASHBOARD = MONITORING / "grafana" / "dashboards" / "demitasse.json"
OF_PROMETHEUS = {"job", "instance"}  # labels that it adds to whatever it scrapes
FAILING_SHADE = 7

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (Debian: apt-get install prometheus)"
)
needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="prometheus is not installed (Debian: apt-get install prometheus)"
)


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((MONITORING / "rules.yml").read_text())["groups"]
    return group["rules"]


def dashboard() -> dict[str, Any]:
    return json.loads(DASHBOARD.read_text(encoding="utf-8"))


def targets() -> list[dict[str, Any]]:
    return [target for panel in dashboard()["panels"] for target in panel.get("targets", [])]


class FailingEngine(FakeEngine):
    def infer(self, images: np.ndarray) -> np.ndarray:
        if (images == FAILING_SHADE).any():
            raise RuntimeError("not this one")
        return super().infer(images)


async def series(root: Path) -> dict[str, set[str]]:
    """The labels of each series of /metrics, once the service has answered, failed on a batch and refused a version."""
    publish(root)
    (root / "broken" / "1").mkdir(parents=True)
    (root / "broken" / "1" / "manifest.json").write_text("{}")
    async with serving(root, FailingEngine) as served:
        for shade, status in ((1, 200), (FAILING_SHADE, 500)):
            assert (await served.http.post("/predict", content=png(shade))).status_code == status
        text = (await served.http.get("/metrics")).text
    found: dict[str, set[str]] = defaultdict(set)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name] |= sample.labels.keys()
    return found


async def test_alerts_and_panels_ask_for_series_and_labels_that_the_service_tells(tmp_path: Path, ask_vendor) -> None:
    shown = [re.sub(r"\$__rate_interval", "5m", target["expr"]) for target in targets()]
    expressions = [*(rule["expr"] for rule in rules()), *shown]
    path = tmp_path / "expressions.json"
    path.write_text(json.dumps(expressions))
    asked = ask_vendor("promql", path)
    told = {**await series(tmp_path / "models"), "up": set()}
    assert len(asked) == len(expressions) > 20
    unknown = {metric for one in asked for metric in one["metrics"]} - told.keys()
    assert unknown == set()
    for one in asked:
        has = OF_PROMETHEUS.union(*(told[metric] for metric in one["metrics"]))
        assert set(one["labels"]) <= has, one["expression"]


async def test_legends_and_annotations_name_labels_that_are_there(tmp_path: Path) -> None:
    told = {**await series(tmp_path / "models"), "up": set()}

    def labels_of(expression: str) -> set[str]:
        return OF_PROMETHEUS.union(*(told.get(name, set()) for name in re.findall(r"demitasse_\w+", expression)))

    for target in targets():
        named = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
        assert named <= labels_of(target["expr"]), target
    for rule in rules():
        named = set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"])))
        assert named <= labels_of(rule["expr"]), rule


def test_every_stage_has_its_panel() -> None:
    stages = set(re.findall(r'stage="(\w+)"', " ".join(target["expr"] for target in targets())))
    assert stages == {"decode", "queue", "inference", "rank"}


def test_grafana_knows_every_field_of_the_dashboard(ask_vendor) -> None:
    assert ask_vendor("grafana", DASHBOARD) == []


def test_panels_take_the_source_that_is_provisioned_and_do_not_overlap() -> None:
    (source,) = yaml.safe_load((MONITORING / "grafana" / "datasources" / "prometheus.yml").read_text())["datasources"]
    assert {target["datasource"]["uid"] for target in targets()} == {source["uid"]}
    places = [panel["gridPos"] for panel in dashboard()["panels"]]
    cells = [
        (x, y) for at in places for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24


def test_what_grafana_and_prometheus_are_told_of_is_where_compose_puts_it() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    config = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    binds = {
        mount["target"]: ROOT / mount["source"]
        for mount in services["prometheus"]["volumes"]
        if mount["type"] == "bind"
    }
    assert [Path("/etc/prometheus") / name for name in config["rule_files"]] == [Path("/etc/prometheus/rules.yml")]
    assert binds == {f"/etc/prometheus/{name}": MONITORING / name for name in ("prometheus.yml", "rules.yml")}
    (found,) = config["scrape_configs"][0]["dns_sd_configs"]
    assert set(found["names"]) == {name for name, service in services.items() if "build" in service}

    (mount,) = services["grafana"]["volumes"]
    (provider,) = yaml.safe_load((MONITORING / "grafana" / "dashboards" / "provider.yml").read_text())["providers"]
    home = services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    inside = Path(mount["target"])
    assert ROOT / mount["source"] / Path(home).relative_to(inside) == DASHBOARD
    assert ROOT / mount["source"] / Path(provider["options"]["path"]).relative_to(inside) == DASHBOARD.parent


@needs_promtool
@pytest.mark.parametrize(
    "command",
    [["check", "config", "prometheus.yml"], ["check", "rules", "rules.yml"], ["test", "rules", "rules.test.yml"]],
)
def test_promtool_finds_nothing(command: list[str]) -> None:
    done = subprocess.run(["promtool", *command], cwd=MONITORING, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tried() -> None:
    tests = yaml.safe_load((MONITORING / "rules.test.yml").read_text())["tests"]
    fires = {case["alertname"] for test in tests for case in test["alert_rule_test"] if case.get("exp_alerts")}
    silent = {case["alertname"] for test in tests for case in test["alert_rule_test"] if not case.get("exp_alerts")}
    assert fires == silent == {rule["alert"] for rule in rules()}


# A real Prometheus


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[Any]:
    """Starts Prometheus with the shipped configuration, but for where it finds the service and how often it asks."""
    processes: list[subprocess.Popen[str]] = []
    clients: list[httpx.Client] = []

    def start(port: int) -> httpx.Client:
        config = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
        config["global"] |= {"scrape_interval": "200ms", "scrape_timeout": "200ms", "evaluation_interval": "200ms"}
        (job,) = config["scrape_configs"]
        del job["dns_sd_configs"]
        job["static_configs"] = [{"targets": [f"127.0.0.1:{port}"]}]
        config["rule_files"] = [str(MONITORING / name) for name in config["rule_files"]]
        path = tmp_path / "prometheus.yml"
        path.write_text(yaml.safe_dump(config))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            own = probe.getsockname()[1]
        command = [
            "prometheus",
            f"--config.file={path}",
            f"--storage.tsdb.path={tmp_path / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{own}",
        ]
        log = (tmp_path / "prometheus.log").open("w")
        with log:
            processes.append(subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, text=True))
        clients.append(httpx.Client(base_url=f"http://127.0.0.1:{own}", trust_env=False, timeout=PATIENCE_S))
        return clients[-1]

    yield start
    for http in clients:
        http.close()
    for process in processes:
        process.terminate()
        process.wait(PATIENCE_S)


def ask(http: httpx.Client, expression: str) -> list[dict[str, Any]]:
    """Asks until there is an answer with something in it."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        with suppress(httpx.TransportError):
            answer = http.get("/api/v1/query", params={"query": expression})
            if answer.status_code == 200 and (found := answer.json()["data"]["result"]):
                return found
        time.sleep(0.1)
    pytest.fail(f"Prometheus never had an answer to {expression}")


@needs_prometheus
def test_prometheus_scrapes_the_service_and_has_data_for_every_panel(tmp_path: Path, prometheus) -> None:
    shutil.copytree(ROOT / "models" / "mnist" / "1", tmp_path / "models" / "mnist" / "1")
    service = Service(tmp_path / "log.jsonl", MODEL_REPOSITORY=str(tmp_path / "models"), DRAIN_DELAY_S="0")
    try:
        service.wait_until_ready()
        http = prometheus(service.port)
        picture = png(100, (28, 28))
        assert service.http.post("/predict", content=picture).status_code == 200
        assert ask(http, 'up{job="demitasse"} == 1')
        assert ask(http, 'demitasse_requests_total{route="/predict", status="200"} == 1')
        (live,) = ask(http, "demitasse_model_info")
        assert (live["metric"]["model"], live["metric"]["version"]) == ("mnist", "1")
        assert service.http.post("/predict", content=picture).status_code == 200
        assert ask(http, 'demitasse_requests_total{route="/predict", status="200"} == 2')
        for target in targets():
            expression = (
                target["expr"].replace("$__rate_interval", "1m").replace("$instance", ".*").replace("$route", ".*")
            )
            if "batch_failures" not in expression:  # there are none
                assert ask(http, expression), expression
        loaded = http.get("/api/v1/rules").json()["data"]["groups"]
        assert [(rule["name"], rule["health"]) for group in loaded for rule in group["rules"]] == [
            (rule["alert"], "ok") for rule in rules()
        ]
    finally:
        service.stop()
