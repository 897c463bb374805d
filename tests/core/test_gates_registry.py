"""What gates on lineage, data, tags, serving conditions and files say of a version, word for word."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from modelrelease.api.gates import Gate
from modelrelease.api.reasons import Reason
from modelrelease.core.gates import Context, evaluate, pin, wanted
from modelrelease.core.gates.artifact import MANIFEST
from modelrelease.core.gates.evaluated_with import arguments, gpu_products
from modelrelease.core.lineage import Dataset, lineage_of
from modelrelease.core.observation import MetricValue, Missing, ModelVersion, Unavailable
from modelrelease.core.version_facts import DatasetInput, FileEntry, ModelFile, Part, RunFacts, Unlisted
from tests.core.builders import NOW, revision, spec

CONTEXT_TAG = "mlflow.data.context"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
GIT = {"mlflow.source.git.commit": COMMIT, "mlflow.source.git.dirty": "false", "features": "churn/3"}
Case = tuple[Gate, ModelVersion, str, str]


def data(name: str = "train", digest: str = "d1", context: str = "training", **tags: str) -> DatasetInput:
    """A dataset input."""
    return DatasetInput(name, digest, "local", {CONTEXT_TAG: context, **tags})


HOLDOUT = data("holdout", "h1", "evaluation")


def run(*inputs: DatasetInput, deleted: bool = False, params: dict[str, str] | None = None, **tags: str) -> RunFacts:
    """A run with these data sets."""
    return RunFacts("run-8", deleted, tags, params or {}, inputs)


def version(of: RunFacts | None = None, *metrics: MetricValue, **more: Any) -> ModelVersion:
    """Version 8, made by this run."""
    run_id = more.pop("run_id", of.id if of else None)
    return ModelVersion("churn", "8", "models:/m-8", "READY", NOW, run_id, metrics, run=of, **more)


def gate(**kind: Any) -> Gate:
    """A gate of one kind."""
    return Gate.model_validate({"name": "gate", **kind})


def lineage(*require: str) -> Gate:
    """A gate that requires these facts."""
    return gate(lineage={"require": list(require)})


EVERYTHING = lineage("dataset", "gitCommit", "run", "cleanTree", "features")
ALL_KNOWN = run(data(), HOLDOUT, **GIT)
LINEAGE: dict[str, Case] = {
    "everything on record passes and is told": (
        EVERYTHING, version(ALL_KNOWN), "Pass",
        "trained on train@d1, evaluated on holdout@h1; commit 0123456789ab; run run-8; clean tree; features churn/3"),
    "a version without a run is missing it": (
        lineage("run"), version(), "InsufficientData", "version 8 names no run; register it with run_id"),
    "a deleted run is missing": (
        lineage("run"), version(run(deleted=True)), "InsufficientData",
        "run run-8 is deleted; restore it, or register a version of a run that is kept"),
    "a run that was not read says nothing": (
        lineage("run"), version(run_id="run-8", parts=frozenset()), "Unavailable",
        "the run has not been read from the registry yet"),
    "a commit that was not logged is missing": (
        lineage("gitCommit"), version(run()), "InsufficientData",
        "no git commit is logged; train from a git checkout or set the tag mlflow.source.git.commit"),
    "a commit that is none is told": (
        lineage("gitCommit"), version(run(**{"mlflow.source.git.commit": "main"})), "InsufficientData",
        "tag mlflow.source.git.commit is 'main', no git commit"),
    "a tag of the version stands above that of the run": (
        lineage("gitCommit"),
        version(run(**{"mlflow.source.git.commit": "main"}), own_tags={"mlflow.source.git.commit": COMMIT}), "Pass",
        "commit 0123456789ab"),
    "uncommitted changes fail": (
        lineage("cleanTree"), version(run(**{"mlflow.source.git.dirty": "true"})), "Fail",
        "trained from a tree with uncommitted changes (mlflow.source.git.dirty=true)"),
    "an unknown state of the tree is missing": (
        lineage("cleanTree"), version(run()), "InsufficientData",
        "not known whether all code was committed; set the tag mlflow.source.git.dirty to false"),
    "a state of the tree that cannot be read is told": (
        lineage("cleanTree"), version(run(**{"mlflow.source.git.dirty": "no"})), "InsufficientData",
        "tag mlflow.source.git.dirty is 'no', neither true nor false"),
    "no features are missing": (
        lineage("features"), version(run()), "InsufficientData",
        "no feature set is logged; set the tag features on the run or the version"),
    "no training data are missing": (
        lineage("dataset"), version(run(HOLDOUT)), "InsufficientData",
        "no training data set is logged; call mlflow.log_input(data, context='training')"),
    "data without a context are named": (
        lineage("dataset"), version(run(DatasetInput("rows", "d1"))), "InsufficientData",
        "no training data set is logged (of rows the context is not told); "
        "call mlflow.log_input(data, context='training')"),
    "no evaluation data are missing": (
        lineage("dataset"), version(run(data())), "InsufficientData",
        "no evaluation data set is logged; call mlflow.log_input(data, context='evaluation')"),
    "data without a digest are named": (
        lineage("dataset"), version(run(data(), data("holdout", "", "evaluation"))), "InsufficientData",
        "data set holdout has no digest"),
    "evaluation on the training data fails": (
        lineage("dataset"), version(run(data(), data("train", "d1", "evaluation"))), "Fail",
        "evaluated on its own training data: train@d1 was trained on"),
    "evaluation on the training data under another name fails": (
        lineage("dataset"), version(run(data(), data("holdout", "d1", "evaluation"))), "Fail",
        "evaluated on its own training data: holdout@d1 was trained on (as train)"),
    "metrics on other data than the training's are an evaluation": (
        lineage("dataset"), version(run(data()), MetricValue("auc", 0.9, "holdout", "h1")), "Pass",
        "trained on train@d1, evaluated on holdout@h1"),
    "a metric on the training data that no gate asks for is no evaluation": (
        lineage("dataset"), version(run(data(), HOLDOUT), MetricValue("train_auc", 0.99, "train", "d1")), "Pass",
        "trained on train@d1, evaluated on holdout@h1"),
    "a judged metric on the training data fails": (
        lineage("dataset"), version(run(data(), HOLDOUT), MetricValue("auc", 0.99, "train", "d1")), "Fail",
        "evaluated on its own training data: train@d1 was trained on"),
    "MLflow's own words for contexts are understood": (
        lineage("dataset"), version(run(data(context="train"), data("holdout", "h1", "eval"))), "Pass",
        "trained on train@d1, evaluated on holdout@h1"),
    "what contradicts comes before what is missing": (
        lineage("gitCommit", "cleanTree"), version(run(**{"mlflow.source.git.dirty": "true"})), "Fail",
        "trained from a tree with uncommitted changes (mlflow.source.git.dirty=true); no git commit is logged; train "
        "from a git checkout or set the tag mlflow.source.git.commit"),
}  # fmt: skip

GOOD = {"completeness": "0.99", "collected_at": "2025-12-20", "documentation": "https://wiki/churn"}
DATASET: dict[str, Case] = {
    "all bounds held pass": (
        gate(dataset={"maxAgeDays": 30, "min": {"completeness": 0.98}, "requireDocumentation": True}),
        version(run(data(**GOOD))), "Pass",
        "train: completeness 0.99, needs 0.98, collected 2025-12-20, allowed 30 days, "
        "documented in https://wiki/churn"),
    "a dimension below its minimum fails": (
        gate(dataset={"min": {"accuracy": 0.95}}), version(run(data(accuracy="0.9"))), "Fail",
        "train: accuracy 0.9, needs 0.95"),
    "any name is a dimension": (
        gate(dataset={"min": {"labels checked": 2}}), version(run(data(**{"labels checked": "3"}))), "Pass",
        "train: labels checked 3, needs 2"),
    "a dimension that was not logged is missing": (
        gate(dataset={"min": {"accuracy": 0.95}}), version(run(data())), "InsufficientData",
        "train: tag accuracy is not logged"),
    "a dimension that is no number is told with its value": (
        gate(dataset={"min": {"accuracy": 0.95}}), version(run(data(accuracy="good"))), "InsufficientData",
        "train: tag accuracy is 'good', no number"),
    "NaN is no number": (
        gate(dataset={"min": {"accuracy": 0.95}}), version(run(data(accuracy="nan"))), "InsufficientData",
        "train: tag accuracy is 'nan', no number"),
    "old data fail": (
        gate(dataset={"maxAgeDays": 30}), version(run(data(collected_at="2025-11-01"))), "Fail",
        "train: collected 2025-11-01, allowed 30 days"),
    "data of exactly the age allowed pass": (
        gate(dataset={"maxAgeDays": 30}), version(run(data(collected_at="2025-12-02T12:00:00Z"))), "Pass",
        "train: collected 2025-12-02T12:00:00Z, allowed 30 days"),
    "a date with an offset counts in UTC": (
        gate(dataset={"maxAgeDays": 30}), version(run(data(collected_at="2025-12-02T13:59:00+02:00"))), "Fail",
        "train: collected 2025-12-02T13:59:00+02:00, allowed 30 days"),
    "a date that is none is told with its value": (
        gate(dataset={"maxAgeDays": 30}), version(run(data(collected_at="last week"))), "InsufficientData",
        "train: tag collected_at is 'last week', no date such as 2026-01-31"),
    "a date at the end of time is none": (
        gate(dataset={"maxAgeDays": 30}), version(run(data(collected_at="9999-12-31T23:00:00-23:00"))),
        "InsufficientData", "train: tag collected_at is '9999-12-31T23:00:00-23:00', no date such as 2026-01-31"),
    "a date to come is told": (
        gate(dataset={"maxAgeDays": 30}), version(run(data(collected_at="2026-02-01"))), "InsufficientData",
        "train: tag collected_at is '2026-02-01', which is yet to come"),
    "a date that was not logged is missing": (
        gate(dataset={"maxAgeDays": 30}), version(run(data())), "InsufficientData",
        "train: tag collected_at is not logged"),
    "undocumented data are missing it": (
        gate(dataset={"requireDocumentation": True}), version(run(data(documentation=" "))), "InsufficientData",
        "train is not documented; log the tag documentation with it"),
    "too many synthetic rows fail": (
        gate(dataset={"maxSyntheticShare": 0.2}), version(run(data(synthetic_share="0.35"))), "Fail",
        "train: 0.35 of it synthetic, allowed 0.2"),
    "a share of more than all is none": (
        gate(dataset={"maxSyntheticShare": 0.2}), version(run(data(synthetic_share="35"))), "InsufficientData",
        "train: tag synthetic_share is '35', no share of 0 to 1"),
    "another context looks at other data": (
        gate(dataset={"context": "evaluation", "min": {"completeness": 0.5}}),
        version(run(data(completeness="0.1"), data("holdout", "h1", "evaluation", completeness="0.9"))), "Pass",
        "holdout: completeness 0.9, needs 0.5"),
    "every data set of the context must hold": (
        gate(dataset={"min": {"completeness": 0.5}}),
        version(run(data(completeness="0.9"), data("more", "d2", completeness="0.1"))), "Fail",
        "more: completeness 0.1, needs 0.5"),
    "a named data set alone counts": (
        gate(dataset={"name": "train", "min": {"completeness": 0.5}}),
        version(run(data(completeness="0.9"), data("more", "d2", completeness="0.1"))), "Pass",
        "train: completeness 0.9, needs 0.5"),
    "no data of the context are missing": (
        gate(dataset={"min": {"completeness": 0.5}}), version(run(HOLDOUT)), "InsufficientData",
        "no training data set is logged; call mlflow.log_input(data, context='training', tags={...})"),
    "data of a deleted run are missing": (
        gate(dataset={"min": {"completeness": 0.5}}), version(run(deleted=True)), "InsufficientData",
        "run run-8 is deleted: its data sets are not known"),
    "data of no run are missing": (
        gate(dataset={"min": {"completeness": 0.5}}), version(), "InsufficientData",
        "version 8 names no run: its data sets are not known"),
    "a run that was not read says nothing of data": (
        gate(dataset={"min": {"completeness": 0.5}}), version(run_id="run-8", parts=frozenset()), "Unavailable",
        "the run has not been read from the registry yet"),
}  # fmt: skip

APPROVED = version(own_tags={"validation_status": "approved", "empty": " "})
TAGS: dict[str, Case] = {
    "a tag with its value passes": (
        gate(tags={"validation_status": "approved"}), APPROVED, "Pass", "tag validation_status is 'approved'"),
    "a tag with another value fails": (
        gate(tags={"validation_status": "waived"}), APPROVED, "Fail",
        "tag validation_status is 'approved', needs 'waived'"),
    "a tag that is not set is missing": (
        gate(tags={"owner": "ml"}), APPROVED, "InsufficientData", "version 8 has no tag owner, needs 'ml'"),
    "a tag of the run does not count": (
        gate(tags={"owner": "ml"}), version(run(owner="ml"), tags={"owner": "ml"}), "InsufficientData",
        "version 8 has no tag owner, needs 'ml'"),
    "a tag equal to what is asked passes": (
        gate(tag={"name": "validation_status", "equals": "approved"}), APPROVED, "Pass",
        "tag validation_status is 'approved'"),
    "one of several values passes": (
        gate(tag={"name": "validation_status", "oneOf": ["waived", "approved"]}), APPROVED, "Pass",
        "tag validation_status is 'approved'"),
    "none of several values fails": (
        gate(tag={"name": "validation_status", "oneOf": ["waived", "signed"]}), APPROVED, "Fail",
        "tag validation_status is 'approved', needs 'waived' or 'signed'"),
    "a tag that is there passes": (
        gate(tag={"name": "validation_status", "present": True}), APPROVED, "Pass",
        "tag validation_status is 'approved'"),
    "a tag that is empty fails": (
        gate(tag={"name": "empty", "present": True}), APPROVED, "Fail", "tag empty is ' ', needs a value"),
    "a tag that must not be there fails": (
        gate(tag={"name": "validation_status", "present": False}), APPROVED, "Fail",
        "tag validation_status is 'approved', must not be set"),
    "a tag that must not be there and is not passes": (
        gate(tag={"name": "blocked", "present": False}), APPROVED, "Pass", "tag blocked is not set"),
}  # fmt: skip

D1, D2 = "sha256:" + "1" * 64, "sha256:" + "2" * 64
ARGS = ["serve", "--model=$(MODEL_URI)", "--max-model-len", "4096", "--gpu_memory_utilization=0.90", "--port", "8000"]
POD: dict[str, Any] = {
    "nodeSelector": {"nvidia.com/gpu.product": "NVIDIA-L4"},
    "containers": [{"name": "server", "image": f"reg/vllm:1@{D1}", "args": ARGS}],
}


def evaluated(**more: str) -> ModelVersion:
    """A version whose evaluation told these."""
    return version(run(**{f"eval.{key}": value for key, value in more.items()}))


WITH: dict[str, Case] = {
    "an evaluation under the conditions of service passes": (
        gate(evaluatedWith={}),
        evaluated(
            image=f"reg/vllm@{D1}", args="--max-model-len=4096 --gpu-memory-utilization 0.9", gpu_product="NVIDIA L4"),
        "Pass", "image sha256:111111111111; 2 engine arguments; GPU NVIDIA L4"),
    "what was not logged is not compared": (
        gate(evaluatedWith={}), evaluated(image=D1), "Pass",
        "image sha256:111111111111; not logged, not compared: eval.args, eval.gpu_product"),
    "what was not logged is missing where it is required": (
        gate(evaluatedWith={"require": True, "compare": ["image"]}), evaluated(), "InsufficientData",
        "eval.image of the evaluation is not logged; set it as a tag of the version"),
    "another image fails": (
        gate(evaluatedWith={"compare": ["image"]}), evaluated(image=D2), "Fail",
        "evaluated with image sha256:222222222222, sha256:111111111111 will serve"),
    "an image without digest cannot be compared with one": (
        gate(evaluatedWith={"compare": ["image"]}), evaluated(image="reg/vllm:1"), "InsufficientData",
        "the image reg/vllm:1 in the tag eval.image has no digest to compare"),
    "other engine arguments fail": (
        gate(evaluatedWith={"compare": ["args"]}),
        evaluated(args='["--max-model-len=8192", "--enforce-eager"]'), "Fail",
        "evaluated with --enforce-eager, will serve with no --enforce-eager; "
        "evaluated with no --gpu-memory-utilization, will serve with --gpu-memory-utilization 0.90; "
        "evaluated with --max-model-len 8192, will serve with --max-model-len 4096"),
    "arguments that cannot be read are told": (
        gate(evaluatedWith={"compare": ["args"]}), evaluated(args='--x "'), "InsufficientData",
        "eval.args is '--x \"', neither a JSON list nor a command line"),
    "another GPU fails": (
        gate(evaluatedWith={"compare": ["gpuProduct"]}), evaluated(gpu_product="NVIDIA-A100-SXM4-80GB"), "Fail",
        "evaluated on NVIDIA-A100-SXM4-80GB, will serve on NVIDIA-L4"),
    "a share of a GPU is another GPU": (
        gate(evaluatedWith={"compare": ["gpuProduct"]}), evaluated(gpu_product="NVIDIA-L4-SHARED"), "Fail",
        "evaluated on NVIDIA-L4-SHARED, will serve on NVIDIA-L4"),
    "a param of the run counts, too": (
        gate(evaluatedWith={"compare": ["gpuProduct"]}), version(run(params={"eval.gpu_product": "NVIDIA-L4"})), "Pass",
        "GPU NVIDIA-L4"),
    "a tag of the LoggedModel counts above the run's": (
        gate(evaluatedWith={"compare": ["gpuProduct"]}),
        version(run(**{"eval.gpu_product": "T4"}), model_tags={"eval.gpu_product": "NVIDIA-L4"}), "Pass",
        "GPU NVIDIA-L4"),
    "a container that is not there fails": (
        gate(evaluatedWith={"container": "engine"}), evaluated(), "Fail", "the template has no container engine"),
}  # fmt: skip

MODEL_FILE = ModelFile("sha256:aa")
FILES = (FileEntry("MLmodel", 10), FileEntry("model.bin", 900))
BOTH = frozenset({Part.RUN, Part.MODEL_FILE, Part.FILES})


def stored(files: Any = FILES, model_file: Any = MODEL_FILE) -> ModelVersion:
    """A version with these files."""
    return version(files=files, model_file=model_file, parts=BOTH)


ARTIFACT = gate(artifact={})
DIGEST = pin([ARTIFACT], stored(), {})[MANIFEST]
FILES_CASES: dict[str, Case] = {
    "files as they were pass": (ARTIFACT, stored(), "Pass", f"{DIGEST[:19]} as pinned: 2 files, 910 bytes"),
    "a digest in a tag as it was passes": (
        gate(artifact={"tag": "digest"}), version(own_tags={"digest": "abc"}), "Pass", "abc as pinned by tag digest"),
    "a digest in a tag that changed fails": (
        gate(artifact={"tag": "digest"}), version(own_tags={"digest": "abd"}), "Fail",
        "the files have changed since the release began: abd now, abc then; register what is to be served as a new "
        "version"),
    "a digest that was not logged is missing": (
        gate(artifact={"tag": "digest"}), version(), "InsufficientData",
        "version 8 has no tag digest; log the digest there"),
    "files that cannot be listed need a tag": (
        ARTIFACT, stored(files=Unlisted("the registry lists no files of s3 sources")), "InsufficientData",
        "the registry lists no files of s3 sources; log a digest as a tag of the version and name it in artifact.tag"),
    "files that could not be listed now are not known": (
        ARTIFACT, stored(files=Unavailable(Reason.REGISTRY_ERROR, "the files cannot be listed")), "Unavailable",
        "the files cannot be listed"),
    "an MLmodel file that is gone is missing": (
        ARTIFACT, stored(model_file=Missing(Reason.VERSION_NOT_FOUND, "it has no MLmodel file")), "InsufficientData",
        "it has no MLmodel file"),
    "files that were not read say nothing": (
        ARTIFACT, version(), "Unavailable", "the list of files has not been read from the registry yet"),
}  # fmt: skip
CASES = {
    f"{kind}: {said}": case
    for kind, cases in {
        "lineage": LINEAGE,
        "dataset": DATASET,
        "tags": TAGS,
        "evaluatedWith": WITH,
        "artifact": FILES_CASES,
    }.items()
    for said, case in cases.items()
}
SERVED = replace(revision("8"), template={"spec": POD})
CONTEXT = Context(NOW, SERVED, None, {MANIFEST: DIGEST, "tag digest": "abc"})


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_gate_says(case: Case) -> None:
    asked, candidate, verdict, message = case
    (seen,) = evaluate([asked], candidate, None, CONTEXT)
    assert (seen.verdict, seen.message) == (verdict, message)


CHANGES = {
    "a file that grew": stored(files=(FileEntry("MLmodel", 10), FileEntry("model.bin", 901))),
    "a file more": stored(files=(*FILES, FileEntry("z", 0))),
    "a file less": stored(files=FILES[:1]),
    "another name": stored(files=(FileEntry("MLmodel", 10), FileEntry("model2.bin", 900))),
    "another MLmodel": stored(model_file=ModelFile("sha256:bb")),
}


@pytest.mark.parametrize("changed", CHANGES.values(), ids=CHANGES.keys())
def test_files_that_changed_fail_with_both_digests(changed: ModelVersion) -> None:
    now = pin([ARTIFACT], changed, {})[MANIFEST]
    (seen,) = evaluate([ARTIFACT], changed, None, CONTEXT)
    assert now != DIGEST
    assert seen.verdict == "Fail"
    assert seen.message.startswith(
        f"the files have changed since the release began: {now[:19]} now, {DIGEST[:19]} then"
    )


def test_what_is_pinned_stays_whatever_the_files_say_later() -> None:
    assert pin([ARTIFACT], CHANGES["a file more"], {MANIFEST: DIGEST}) == {MANIFEST: DIGEST}
    assert pin([ARTIFACT], None, {MANIFEST: DIGEST}) == {MANIFEST: DIGEST}
    assert pin([lineage("run")], stored(), {}) == {}


def test_the_order_in_which_files_are_listed_does_not_matter() -> None:
    assert pin([ARTIFACT], stored(files=FILES[::-1]), {}) == {MANIFEST: DIGEST}


def test_lineage_is_what_a_record_keeps() -> None:
    found = lineage_of(replace(version(ALL_KNOWN, MetricValue("auc", 0.9, "night", "n1")), run_link="https://x/run"))
    assert (found.run_id, found.run_deleted, found.run_link, found.read) == ("run-8", False, "https://x/run", True)
    assert (found.git_commit, found.clean_tree, found.features) == (COMMIT, True, "churn/3")
    assert found.training == (Dataset("train", "d1", "local"),)
    assert found.evaluation == (Dataset("holdout", "h1", "local"), Dataset("night", "n1"))


def test_lineage_of_a_version_with_far_too_much_stays_small() -> None:
    many = tuple(data("n" * 10_000, f"{number}" * 100) for number in range(500))
    found = lineage_of(version(run(*many, features="f" * 10_000)))
    assert len(found.training) == 32
    assert len(repr(found)) < 32 * 500


def test_only_what_a_gate_needs_is_read() -> None:
    run_only = frozenset({Part.RUN})
    assert wanted([gate(metric={"name": "auc", "champion": {"maxDrop": 0.1}})]) == (run_only, frozenset())
    assert wanted([EVERYTHING, gate(tags={"a": "b"}), gate(artifact={"tag": "digest"})]) == (run_only, frozenset())
    of_candidate, of_champion = wanted([gate(signature={"compatibleWith": "champion"}), ARTIFACT])
    assert of_candidate == {Part.RUN, Part.MODEL_FILE, Part.FILES}
    assert of_champion == {Part.MODEL_FILE}


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ([], {}),
        (["vllm", "serve", "m", "--host", "0.0.0.0", "--model", "x"], {}),
        (["--a=1", "--b", "2", "-tp", "4", "--flag"], {"a": "1", "b": "2", "tp": "4", "flag": ""}),
        (["--low", "-1", "--low", "-.5"], {"low": "-1 -.5"}),
        (["--list", "a", "b", "--enable_x"], {"list": "a b", "enable-x": ""}),
        (["--", "x"], {}),
    ],
)
def test_arguments_are_read_as_engines_read_them(words: list[str], options: dict[str, str]) -> None:
    assert arguments(words) == options


def _affinity(*terms: list[dict[str, Any]]) -> dict[str, Any]:
    required = {"nodeSelectorTerms": [{"matchExpressions": list(term)} for term in terms]}
    return {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}}


def _gpus(*products: str) -> dict[str, Any]:
    return {"key": "nvidia.com/gpu.product", "operator": "In", "values": list(products)}


PODS: dict[str, tuple[dict[str, Any], set[str] | None]] = {
    "nothing is said": ({}, None),
    "a selector says one": ({"nodeSelector": {"cloud.google.com/gke-accelerator": "nvidia-l4"}}, {"nvidia-l4"}),
    "affinity says two": (_affinity([_gpus("A", "B")]), {"A", "B"}),
    "both must hold within a term": (_affinity([_gpus("A", "B"), _gpus("B")]), {"B"}),
    "one of two terms is enough": (_affinity([_gpus("A")], [_gpus("B")]), {"A", "B"}),
    "a term about something else allows all": (
        _affinity([_gpus("A")], [{"key": "zone", "operator": "In", "values": ["x"]}]), None),
    "selector and affinity together": (
        {"nodeSelector": {"nvidia.com/gpu.product": "A"}, **_affinity([_gpus("A", "B")])}, {"A"}),
    "a NotIn says nothing": (_affinity([{**_gpus("A"), "operator": "NotIn"}]), None),
}  # fmt: skip


@pytest.mark.parametrize("pod", PODS.values(), ids=PODS.keys())
def test_the_template_says_which_gpus_may_serve(pod: tuple[dict[str, Any], set[str] | None]) -> None:
    assert gpu_products(pod[0]) == pod[1]


def test_an_age_is_judged_by_the_day_of_the_decision() -> None:
    asked = gate(dataset={"maxAgeDays": 30})
    candidate = version(run(data(collected_at="2025-12-20")))
    verdicts = [
        evaluate([asked], candidate, None, Context(NOW + timedelta(days=days)))[0].verdict for days in (0, 17, 18)
    ]
    assert verdicts == ["Pass", "Pass", "Fail"]


def test_the_gates_of_the_design_are_accepted_as_they_stand() -> None:
    spec(
        gates=[
            {"name": "lineage", "lineage": {"require": ["dataset", "gitCommit", "run", "cleanTree", "features"]}},
            {
                "name": "data",
                "dataset": {"maxAgeDays": 30, "min": {"completeness": 0.98}, "requireDocumentation": True},
            },
            {"name": "schema", "signature": {"compatibleWith": "champion"}},
            {"name": "tags", "tags": {"validation_status": "approved"}},
        ]
    )


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ({"tag": {"name": "a"}}, "exactly one of equals, one_of, present"),
        ({"tag": {"name": "a", "equals": "b", "present": True}}, "exactly one of equals, one_of, present"),
        ({"tags": {}}, "at least 1 item"),
        ({"tags": {"": "b"}}, "1 to 250 characters"),
        ({"dataset": {}}, "set at least one of maxAgeDays"),
        ({"dataset": {"requireDocumentation": False}}, "set at least one of maxAgeDays"),
        ({"lineage": {"require": []}}, "at least 1 item"),
        ({"lineage": {"require": ["author"]}}, "Input should be"),
        ({"signature": {}}, "Field required"),
        ({"signature": {"compatibleWith": "stable"}}, "Input should be"),
    ],
)
def test_a_gate_that_says_nothing_is_refused(kind: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        gate(**kind)
