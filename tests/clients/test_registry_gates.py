"""Gates on what the registry tells, against a real MLflow server: what they say, and what it costs to read.

Every request goes through a recording proxy, so that a test can count them and see which files were asked for.
"""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag
from mlflow.models import ModelSignature
from mlflow.types.schema import ColSpec, Schema
from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]

from e2e.mlflow_server import MlflowServer
from modelrelease.api.gates import Gate
from modelrelease.api.reasons import Reason
from modelrelease.api.status import GateStatus
from modelrelease.clients.registry import RegistryClient, RegistryEndpoint
from modelrelease.core.gates import Context, evaluate, pin, wanted
from modelrelease.core.lineage import lineage_of
from modelrelease.core.observation import ModelVersion, Unavailable
from modelrelease.core.version_facts import FileEntry, Part, Unlisted
from tests.clients.loopback import Answer, Request, Server, serve
from tests.core.builders import revision

NOW = datetime(2026, 2, 10, tzinfo=UTC)
DOCUMENT = Path(__file__).parents[2] / "docs" / "gates-registry.md"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
GIT = {"mlflow.source.git.commit": COMMIT, "mlflow.source.git.dirty": "false", "features": "churn/3"}
SLICES = [f"slice/s{number}/recall" for number in range(20)]
WEIGHTS = b"w" * 3_000_000


def schema(*columns: ColSpec) -> str:
    """An MLmodel file with this input schema."""
    return yaml.safe_dump({"flavors": {}, "signature": ModelSignature(inputs=Schema(list(columns))).to_dict()})


AGE, PLAN = ColSpec("long", "age"), ColSpec("string", "plan", required=False)
TAKES_TWO = schema(AGE, PLAN)


@dataclass
class Registry:
    """A registered model of one test, written directly and read through the proxy."""

    url: str
    proxy: Server
    model: str
    folder: Path
    writer: MlflowClient = field(init=False)
    client: RegistryClient = field(init=False)
    sent: int = 0

    def __post_init__(self) -> None:
        self.writer = MlflowClient(self.url)
        self.client = RegistryClient(RegistryEndpoint(self.proxy.url))
        self.writer.create_registered_model(self.model)

    def version(
        self,
        *inputs: DatasetInput,
        run_tags: dict[str, str] | None = None,
        tags: dict[str, str] | None = None,
        params: dict[str, str] | None = None,
        metrics: list[dict[str, Any]] | None = None,
        files: dict[str, bytes | str] | None = None,
    ) -> str:
        """Register a version with a run and a LoggedModel that has these files."""
        run = self.writer.create_run("0", tags=run_tags).info.run_id
        for key, value in (params or {}).items():
            self.writer.log_param(run, key, value)
        logged = self.writer.create_logged_model("0", name="m", source_run_id=run)
        if inputs:
            self.writer.log_inputs(run, datasets=list(inputs))
        for point in metrics or []:
            self.writer.log_metric(run, model_id=logged.model_id, **point)
        if files:
            self.upload(logged.model_id, files)
        self.writer.finalize_logged_model(logged.model_id, "READY")
        source = f"models:/{logged.model_id}"
        made = self.writer.create_model_version(self.model, source, run, tags=tags, model_id=logged.model_id)
        return str(made.version)

    def upload(self, model_id: str, files: dict[str, bytes | str]) -> None:
        """Add files to a LoggedModel."""
        local = self.folder / model_id
        for path, content in files.items():
            (local / path).parent.mkdir(parents=True, exist_ok=True)
            (local / path).write_bytes(content if isinstance(content, bytes) else content.encode())
        self.writer.log_model_artifacts(model_id, str(local))

    def read(self, version: str, parts: frozenset[Part]) -> ModelVersion:
        """As the operator reads it."""
        found = self.client.read_version(self.model, version, parts)
        assert isinstance(found, ModelVersion), found
        return found

    def judge(
        self, gates: list[Gate], candidate: str, champion: str | None = None, *, template: Any = None, **pinned: str
    ) -> list[GateStatus]:
        """One gating pass. pinned: digests from an earlier one."""
        of_candidate, of_champion = wanted(gates)
        runs = replace(revision("8"), gates=tuple(gates), template=template or revision("8").template)
        serves = self.read(champion, of_champion) if champion else None
        return list(evaluate(gates, self.read(candidate, of_candidate), serves, Context(NOW, runs, None, pinned)))

    @property
    def paths(self) -> list[str]:
        """What was asked for, without the names of this test's objects."""
        return [re.sub(r"m-[0-9a-f]{32}", "ID", request.path.partition("?")[0]) for request in self.proxy.requests]


@pytest.fixture
def registry(mlflow_server: MlflowServer, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Registry]:
    made: list[Registry] = []

    def forward(asked: Request) -> Answer:
        headers = {key: value for key, value in asked.headers.items() if key not in ("Host", "Accept-Encoding")}
        onward = urllib.request.Request(mlflow_server.url + asked.path, headers=headers, method=asked.method)
        try:
            with urllib.request.urlopen(onward) as response:
                status, body = response.status, response.read()
        except urllib.error.HTTPError as error:
            status, body = error.code, error.read()
        made[0].sent += len(body)
        return Answer(status, body)

    with serve(forward) as proxy:
        made.append(Registry(mlflow_server.url, proxy, re.sub(r"[^A-Za-z0-9]+", "-", request.node.name), tmp_path))
        yield made[0]


def data(name: str, digest: str, context: str, **tags: str) -> DatasetInput:
    """A dataset input."""
    kept = {"mlflow.data.context": context, **tags}
    return DatasetInput(Dataset(name, digest, "local", "{}"), [InputTag(key, value) for key, value in kept.items()])


TRAINING = data("train", "d1", "training", completeness="0.99", collected_at="2026-01-31")
HOLDOUT = data("holdout", "h1", "evaluation")


def gate(**kind: Any) -> Gate:
    """A gate of one kind."""
    return Gate.model_validate({"name": "gate", **kind})


def only(seen: list[GateStatus]) -> tuple[str, str]:
    """Verdict and message of the only gate."""
    assert len(seen) == 1
    return seen[0].verdict, seen[0].message


EVERYTHING = gate(lineage={"require": ["dataset", "gitCommit", "run", "cleanTree", "features"]})
SCHEMA = gate(signature={"compatibleWith": "champion"})
FILES = gate(artifact={})


def test_lineage_on_record_passes_and_is_kept(registry: Registry) -> None:
    version = registry.version(TRAINING, HOLDOUT, run_tags=GIT)

    (seen,) = registry.judge([EVERYTHING], version)

    run = registry.writer.get_model_version(registry.model, version).run_id
    assert seen.verdict == "Pass"
    assert seen.message == (
        "trained on train@d1, evaluated on holdout@h1; commit 0123456789ab; "
        f"run {run[:12]}; clean tree; features churn/3"
    )
    kept = lineage_of(registry.read(version, wanted([EVERYTHING])[0]))
    assert (kept.run_id, kept.git_commit, kept.clean_tree, kept.features) == (run, COMMIT, True, "churn/3")
    assert [item.shown for item in (*kept.training, *kept.evaluation)] == ["train@d1", "holdout@h1"]


def test_lineage_that_was_not_logged_is_missing(registry: Registry) -> None:
    verdict, message = only(registry.judge([EVERYTHING], registry.version()))

    assert verdict == "InsufficientData"
    assert message.startswith("no training data set is logged; call mlflow.log_input(data, context='training'); no git")


def test_a_deleted_run_is_missing_though_mlflow_still_answers_for_it(registry: Registry) -> None:
    version = registry.version(TRAINING, HOLDOUT, run_tags=GIT)
    run = registry.writer.get_model_version(registry.model, version).run_id
    registry.writer.delete_run(run)

    assert only(registry.judge([gate(lineage={"require": ["run"]})], version)) == (
        "InsufficientData",
        f"run {run} is deleted; restore it, or register a version of a run that is kept",
    )
    assert only(registry.judge([gate(dataset={"requireDocumentation": True})], version))[0] == "InsufficientData"


def test_evaluation_on_training_data_fails_where_mlflow_keeps_but_one_use_of_them(registry: Registry) -> None:
    """The second use of a data set in a run is dropped by MLflow without a word; the metric tells."""
    point = {"key": "auc", "value": 0.99, "dataset_name": "train", "dataset_digest": "d1"}
    version = registry.version(TRAINING, HOLDOUT, data("train", "d1", "evaluation"), metrics=[point])
    gates = [gate(metric={"name": "auc", "min": 0.9}), gate(lineage={"require": ["dataset"]})]

    metric, lineage = registry.judge(gates, version)

    assert metric.verdict == "Pass"
    assert (lineage.verdict, lineage.message) == (
        "Fail",
        "evaluated on its own training data: train@d1 was trained on",
    )


def test_data_are_judged_by_the_tags_of_their_input(registry: Registry) -> None:
    asked = gate(dataset={"maxAgeDays": 30, "min": {"completeness": 0.98}})
    good = registry.version(TRAINING)
    bad = registry.version(data("train", "d1", "training", completeness="0.9", collected_at="2025-12-01"))
    odd = registry.version(data("train", "d1", "training", completeness="most", collected_at="2026-01-31"))

    assert [only(registry.judge([asked], version)) for version in (good, bad, odd)] == [
        ("Pass", "train: completeness 0.99, needs 0.98, collected 2026-01-31, allowed 30 days"),
        ("Fail", "train: completeness 0.9, needs 0.98; train: collected 2025-12-01, allowed 30 days"),
        ("InsufficientData", "train: tag completeness is 'most', no number"),
    ]


def test_a_signature_is_compared_with_that_of_the_champion(registry: Registry) -> None:
    champion = registry.version(files={"MLmodel": TAKES_TWO})
    wider = schema(ColSpec("long", "age"), PLAN, ColSpec("double", "income", required=False))
    narrow = schema(ColSpec("string", "age"), ColSpec("double", "income"))
    same, other, none = (registry.version(files={"MLmodel": text}) for text in (wider, narrow, "flavors: {}"))

    assert [only(registry.judge([SCHEMA], version, champion)) for version in (same, other, none)] == [
        ("Pass", "accepts what version 1 accepts: 2 columns"),
        (
            "Fail",
            "does not accept what version 1 accepts: column age is string, was long; column plan is gone; column "
            "income is new and required",
        ),
        (
            "InsufficientData",
            "version 4 has no signature of its inputs; pass signature= or input_example= when the model is logged",
        ),
    ]
    assert only(registry.judge([SCHEMA], same)) == ("Pass", "accepts 3 columns; nothing serves yet to compare with")


def test_a_model_file_that_is_not_there_is_missing(registry: Registry) -> None:
    verdict, message = only(registry.judge([SCHEMA], registry.version()))

    assert (verdict, message) == ("InsufficientData", f"{registry.model} version 1 has no MLmodel file")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x00\x01", "it is not YAML"),
        (b"[" * 100_000, "it has not the shape of an MLmodel file"),
        (b"a: " + b"[" * 100_000, "it is nested too deeply"),
        (b"{a: 1}: b", "it has a key that is no text"),
        (b"signature: 7", "it has not the shape of an MLmodel file"),
        (b"a: 1\n---\na: 2", "it is not one YAML document"),
        (b"- a list", "it has not the shape of an MLmodel file"),
        (b"signature: {inputs: [1]}", "its signature's inputs are not JSON text"),
        (b"#" * (512 * 1024 + 1), "is larger than 512 KiB and is not read"),
        (b"signature: {inputs: 'no JSON'}", "the signature of version 1 cannot be read"),
        (b"signature: {inputs: '{}'}", "the signature of version 1 cannot be read"),
    ],
    ids=[
        "binary",
        "nested list",
        "nested",
        "odd key",
        "number",
        "two",
        "list",
        "no text",
        "huge",
        "no JSON",
        "no schema",
    ],
)
def test_a_model_file_that_cannot_be_read_is_unavailable(registry: Registry, content: bytes, words: str) -> None:
    version = registry.version(files={"MLmodel": content}, tags={"a": "b"})

    signature, tag = registry.judge([SCHEMA, gate(tags={"a": "b"})], version)

    assert signature.verdict == "Unavailable"
    assert words in signature.message
    assert tag.verdict == "Pass", "other gates go on"


def test_a_source_that_the_registry_cannot_reach_is_unavailable(registry: Registry) -> None:
    made = registry.writer.create_model_version(registry.model, "s3://bucket/churn")

    signature, files, tagged = registry.judge([SCHEMA, FILES, gate(artifact={"tag": "digest"})], str(made.version))

    assert signature.verdict == "Unavailable"
    assert signature.message.startswith(f"MLmodel of {registry.model} version 1 cannot be read: the registry at http")
    assert "HTTP 500" in signature.message
    assert (files.verdict, files.message) == (
        "InsufficientData",
        "the registry lists no files of s3 sources; log a digest as a tag of the version and name it in artifact.tag",
    )
    assert (tagged.verdict, tagged.message) == (
        "InsufficientData",
        "version 1 has no tag digest; log the digest there",
    )


def test_serving_conditions_are_compared_with_those_of_the_evaluation(registry: Registry) -> None:
    image = "sha256:" + "1" * 64
    pod = {"containers": [{"name": "s", "image": f"reg/vllm@{image}", "args": ["--max-model-len", "4096"]}]}
    template = {"spec": {**pod, "nodeSelector": {"nvidia.com/gpu.product": "NVIDIA-L4"}}}
    asked = gate(evaluatedWith={"require": True})
    right = registry.version(
        tags={"eval.image": image},
        run_tags={"eval.args": "--max_model_len=4096"},
        params={"eval.gpu_product": "NVIDIA L4"},
    )
    wrong = registry.version(
        tags={"eval.image": image}, run_tags={"eval.args": "--max-model-len=512"}, params={"eval.gpu_product": "T4"}
    )
    silent = registry.version()

    assert [only(registry.judge([asked], version, template=template)) for version in (right, wrong)] == [
        ("Pass", "image sha256:111111111111; 1 engine arguments; GPU NVIDIA L4"),
        (
            "Fail",
            "evaluated with --max-model-len 512, will serve with --max-model-len 4096; evaluated on T4, will serve on "
            "NVIDIA-L4",
        ),
    ]
    verdict, message = only(registry.judge([asked], silent, template=template))
    assert verdict == "InsufficientData"
    assert message.startswith("eval.image of the evaluation is not logged; set it as a tag of the version; eval.args")


def test_tags_are_those_of_the_version(registry: Registry) -> None:
    version = registry.version(run_tags={"owner": "run"}, tags={"validation_status": "approved"})
    gates = [
        gate(tags={"validation_status": "approved"}),
        gate(tag={"name": "validation_status", "oneOf": ["waived"]}),
        gate(tag={"name": "owner", "present": True}),
    ]

    assert [(seen.verdict, seen.message) for seen in registry.judge(gates, version)] == [
        ("Pass", "tag validation_status is 'approved'"),
        ("Fail", "tag validation_status is 'approved', needs 'waived'"),
        ("InsufficientData", f"version {version} has no tag owner, needs a value"),
    ]


def test_files_that_change_after_gating_fail_and_weights_are_never_read(registry: Registry) -> None:
    version = registry.version(files={"MLmodel": TAKES_TWO, "data/model.bin": WEIGHTS, "data/parts/0.bin": WEIGHTS})
    parts = wanted([FILES])[0]
    first = registry.read(version, parts)
    pinned = pin([FILES], first, {})
    assert first.files == (
        FileEntry("MLmodel", len(TAKES_TWO)),
        FileEntry("data/model.bin", len(WEIGHTS)),
        FileEntry("data/parts/0.bin", len(WEIGHTS)),
    )
    digest = next(iter(pinned.values()))

    assert only(registry.judge([FILES], version, **pinned)) == (
        "Pass",
        f"{digest[:19]} as pinned: 3 files, {len(TAKES_TWO) + 2 * len(WEIGHTS)} bytes",
    )
    model_id = first.source.removeprefix("models:/")
    registry.upload(model_id, {"data/model.bin": WEIGHTS + b"!"})
    now = next(iter(pin([FILES], registry.read(version, parts), {}).values()))
    assert now != digest
    assert only(registry.judge([FILES], version, **pinned)) == (
        "Fail",
        f"the files have changed since the release began: {now[:19]} now, {digest[:19]} then; register what is to be "
        "served as a new version",
    )
    assert registry.sent < 100_000, "bytes of all answers"
    asked = {request.path for request in registry.proxy.requests if "/files?" in request.path}
    assert all(path.endswith("artifact_file_path=MLmodel") for path in asked)


def test_files_in_too_many_folders_are_not_listed(registry: Registry) -> None:
    version = registry.version(files={f"d{number}/x": b"1" for number in range(40)} | {"MLmodel": TAKES_TWO})

    found = registry.read(version, wanted([FILES])[0])

    assert isinstance(found.files, Unlisted)
    assert only(registry.judge([FILES], version))[0] == "InsufficientData"


def test_a_gating_pass_over_twenty_slices_costs_three_requests_or_four_with_the_signature(registry: Registry) -> None:
    points = [{"key": key, "value": 0.9, "dataset_name": "holdout", "dataset_digest": "h1"} for key in SLICES]
    first, second = (
        registry.version(TRAINING, HOLDOUT, run_tags=GIT, tags={"a": "b"}, metrics=points, files={"MLmodel": TAKES_TWO})
        for _ in range(2)
    )
    slices = gate(slices={"metric": "recall", "champion": {"maxDrop": 0.01}})
    registry.proxy.requests.clear()

    assert [seen.verdict for seen in registry.judge([slices], second)] == ["Pass"]

    of_candidate = ["model-versions/get", "runs/get", "logged-models/ID"]
    assert registry.paths == [f"/api/2.0/mlflow/{path}" for path in of_candidate]
    registry.proxy.requests.clear()
    gates = [
        slices,
        EVERYTHING,
        gate(dataset={"min": {"completeness": 0.9}}),
        SCHEMA,
        gate(evaluatedWith={}),
        gate(tags={"a": "b"}),
        gate(artifact={"tag": "a"}),
    ]

    assert {seen.verdict for seen in registry.judge(gates, second, first)} == {"Pass"}

    model_file = "/ajax-api/2.0/mlflow/logged-models/ID/artifacts/files"
    of_champion = ["/api/2.0/mlflow/model-versions/get", "/api/2.0/mlflow/logged-models/ID", model_file]
    assert registry.paths == [*of_champion, *(f"/api/2.0/mlflow/{path}" for path in of_candidate), model_file]


def test_files_of_a_model_without_folders_cost_one_request_more(registry: Registry) -> None:
    version = registry.version(files={"MLmodel": TAKES_TWO, "model.bin": b"1"})
    registry.proxy.requests.clear()

    assert only(registry.judge([FILES], version))[0] == "Pass"
    assert len(registry.paths) == 5


BROKEN = {
    "503": (Answer(503), Reason.REGISTRY_ERROR),
    "403": (Answer(403), Reason.REGISTRY_UNAUTHORIZED),
    "a redirect": (Answer(302, b"", {"Location": "http://127.0.0.1:9/"}), Reason.REGISTRY_ERROR),
    "a folder above": (Answer(200, b'{"files": [{"path": "../up", "is_dir": true}]}'), Reason.REGISTRY_ERROR),
    "a folder within itself": (Answer(200, b'{"files": [{"path": "", "is_dir": true}]}'), Reason.REGISTRY_ERROR),
    "a list": (Answer(200, b"[]"), Reason.REGISTRY_ERROR),
    "a deep list": (Answer(200, b"[" * 200_000), Reason.REGISTRY_ERROR),
}


@pytest.mark.parametrize("case", BROKEN.values(), ids=BROKEN.keys())
def test_a_registry_that_fails_at_files_leaves_the_rest_readable(case: tuple[Answer, Reason]) -> None:
    broken, reason = case
    made = {"name": "m", "version": "7", "status": "READY", "source": "models:/m-1", "run_link": "https://x/1"}
    logged = {"info": {"model_id": "m-1", "experiment_id": "0", "status": "LOGGED_MODEL_READY"}, "data": {}}

    def answer(request: Request) -> Answer:
        if "model-versions/get" in request.path:
            return Answer(200, json.dumps({"model_version": made}).encode())
        if request.path.endswith("/logged-models/m-1"):
            return Answer(200, json.dumps({"model": logged}).encode())
        return broken

    with serve(answer) as server:
        client = RegistryClient(RegistryEndpoint(server.url), timeout_s=5)
        found = client.read_version("m", "7", frozenset({Part.FILES, Part.MODEL_FILE}))
    assert isinstance(found, ModelVersion), found
    assert isinstance(found.files, Unavailable), found.files
    assert found.files.reason is reason
    assert found.run_link == "https://x/1"


def test_the_documentation_is_right(mlflow_server: MlflowServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its Python is run against the server, its YAML is parsed, and all of its gates pass."""
    text = DOCUMENT.read_text()
    (listed,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    gates = [Gate.model_validate(item) for item in yaml.safe_load(listed)["gates"]]
    rows = pd.DataFrame({"age": [20.0, 30.0, 40.0, 50.0], "left": [0, 1, 0, 1]})
    model = LogisticRegression().fit(rows[["age"]], rows["left"])
    before = mlflow.get_tracking_uri()
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    mlflow.set_tracking_uri(mlflow_server.url)
    try:
        exec(code, {"rows": rows, "unseen": rows.assign(age=rows["age"] + 1), "model": model, "commit": COMMIT})
    finally:
        mlflow.set_tracking_uri(before)
    version = RegistryClient(RegistryEndpoint(mlflow_server.url)).read_version("churn", "1", wanted(gates)[0])
    container = {"name": "s", "image": "reg/s@sha256:" + "1" * 64, "args": ["--max-batch-size", "32"]}
    template = {"spec": {"containers": [container], "nodeSelector": {"nvidia.com/gpu.product": "NVIDIA-L4"}}}
    runs = replace(revision("8"), gates=tuple(gates), template=template)

    seen = evaluate(gates, version, None, Context(datetime(2026, 1, 31, tzinfo=UTC) + timedelta(days=20), runs))

    assert {item.name: item.verdict for item in seen} == {item.name: "Pass" for item in gates}, seen
