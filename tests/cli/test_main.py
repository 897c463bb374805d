"""The plugin's frame: verbs, errors in one line, a light start, completion."""

from __future__ import annotations

import pytest

from modelrelease.cli.main import VERBS, program

from .invoke import EXAMPLE, invoke, own_process

HEAVY = ("kopf", "mlflow", "kubernetes", "aiohttp", "matplotlib", "numpy", "requests")
RUN = "import sys; from modelrelease.cli.main import run; code = run(sys.argv[1:])"
LOADED = f"{RUN}; print('LOADED', [name for name in {HEAVY!r} if name in sys.modules]); sys.exit(code)"
QUICK = ("--traffic", "500/s", "--runs", "2", "--jobs", "1")


@pytest.mark.parametrize("words", [("--help",), ("--version",), ("simulate", "-f", EXAMPLE, *QUICK)])
def test_start_when_a_verb_needs_no_cluster_imports_no_client(words: tuple[str, ...]) -> None:
    answer = own_process(LOADED, *words)
    assert (answer.code, answer.out.splitlines()[-1]) == (0, "LOADED []")


def test_help_when_asked_lists_every_verb_without_importing_it() -> None:
    answer = own_process(f"{RUN}; print([m for m in sys.modules if m.startswith('modelrelease.cli.')])", "--help")
    assert answer.out.splitlines()[-1] == "['modelrelease.cli.main']"
    assert all(verb in answer.out for verb in VERBS)


def test_verbs_when_imported_have_the_help_that_the_table_promises(capsys: pytest.CaptureFixture[str]) -> None:
    for verb in VERBS:
        answer = invoke(capsys, verb, "--help")
        assert answer.code == 0
        assert max(len(line) for line in answer.out.splitlines()) <= 80


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("simulat",), "No such command 'simulat'"),
        (("simulate", "--traffic", "20/s"), "Missing option '-f'"),
        (("simulate", "-f", EXAMPLE, "--traffic", "many"), "'many' is no rate, write for example 20/s"),
        (("simulate", "-f", EXAMPLE, "--traffic", "0/s"), "'0/s' is no rate"),
        (("simulate", "-f", EXAMPLE, *QUICK, "--canary-errors", "300%"), "must be from 0 to 100%"),
        (("simulate", "-f", EXAMPLE, *QUICK, "--canary-errors", "ttft=3%"), "no such check 'ttft'"),
        (("simulate", "-f", EXAMPLE, *QUICK, "--canary-latency", "errors=3s~1"), "no such check 'errors'"),
        (("simulate", "-f", EXAMPLE, *QUICK, "--plot", "a.pdf"), "ends neither in .png nor in .svg"),
        (("simulate", "-f", EXAMPLE, *QUICK, "--sweep", "weight=1,2"), "can be swept: traffic"),
        (("simulate", "-f", EXAMPLE, *QUICK, "--sweep", "canary-errors=1%,x"), "'x' is no share"),
        (("simulate", "-f", "absent.yaml", *QUICK), "absent.yaml: No such file or directory"),
        (("replay", "-f", EXAMPLE), "churn has no candidate in its status"),
    ],
)
def test_a_mistake_when_made_is_told_in_one_line_with_code_2(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], says: str
) -> None:
    answer = invoke(capsys, *words)
    assert (answer.code, answer.out) == (2, "")
    assert says in answer.err
    assert answer.err.startswith("kubectl-modelrelease: ")
    assert answer.err.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("kind: Pod\napiVersion: v1\n", "-f holds no ModelRelease; found Pod"),
        ("a: [", "not YAML"),
        ("just words", "holds no Kubernetes object"),
        (
            "{apiVersion: modelrelease.dev/v1alpha1, kind: ModelRelease, spec: {modle: 1}}",
            "ModelRelease: spec.model: Field required (and 3 more)",
        ),
    ],
)
def test_a_file_when_it_does_not_fit_is_told_with_its_field(
    capsys: pytest.CaptureFixture[str], tmp_path: object, text: str, says: str
) -> None:
    path = f"{tmp_path}/release.yaml"
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    answer = invoke(capsys, "simulate", "-f", path, *QUICK)
    assert answer.code == 2
    assert says in answer.err


def test_a_policy_when_it_is_named_but_not_given_is_asked_for(
    capsys: pytest.CaptureFixture[str], tmp_path: object
) -> None:
    path = f"{tmp_path}/release.yaml"
    with open(EXAMPLE, encoding="utf-8") as source, open(path, "w", encoding="utf-8") as file:
        file.write(source.read().replace("spec:\n  model:", "spec:\n  policyRef: {name: house}\n  model:", 1))
    answer = invoke(capsys, "simulate", "-f", path, *QUICK)
    assert answer.code == 2
    assert "ReleasePolicy house" in answer.err
    policy = f"{tmp_path}/policy.yaml"
    with open(policy, "w", encoding="utf-8") as file:
        file.write(
            "{apiVersion: modelrelease.dev/v1alpha1, kind: ReleasePolicy, metadata: {name: house}, "
            "spec: {checks: [{name: slo, errorRate: {max: 0.2}}]}}"
        )
    answer = invoke(capsys, "simulate", "-f", path, "-f", policy, *QUICK)
    assert answer.code == 0
    assert "house/slo" in answer.out


def test_colour_when_nobody_looks_or_no_color_is_set_is_left_out() -> None:
    answer = own_process(RUN, "simulate", "-f", EXAMPLE, *QUICK)
    assert "\x1b" not in answer.out
    coloured = "import sys, click; from modelrelease.cli import main; sys.stdout.isatty = lambda: True; "
    coloured += "main.run(sys.argv[1:])"
    assert "\x1b" in own_process(coloured, "simulate", "-f", EXAMPLE, *QUICK, env={"NO_COLOR": ""}).out
    assert "\x1b" not in own_process(coloured, "simulate", "-f", EXAMPLE, *QUICK, env={"NO_COLOR": "1"}).out


@pytest.mark.parametrize(
    ("shell", "word"), [("bash", "complete -o"), ("zsh", "compdef"), ("fish", "complete --no-files")]
)
def test_completion_when_a_shell_is_named_prints_its_script(
    capsys: pytest.CaptureFixture[str], shell: str, word: str
) -> None:
    answer = invoke(capsys, "completion", shell)
    assert answer.code == 0
    assert word in answer.out
    assert "_KUBECTL_MODELRELEASE_COMPLETE" in answer.out


@pytest.mark.parametrize(
    ("words", "offered", "last"),
    [
        (("sim",), "simulate", ":4"),
        (("simulate", "--canary-e"), "--canary-errors", ":4"),
        (("completion", "z"), "zsh", ":4"),
        (("simulate", "--plot", ""), "", ":0"),
    ],
)
def test_completion_when_kubectl_asks_answers_as_cobra_does(words: tuple[str, ...], offered: str, last: str) -> None:
    answer = own_process("from modelrelease.cli.completion import for_kubectl; for_kubectl()", *words)
    lines = answer.out.splitlines()
    assert lines[-1] == last
    assert [line.partition("\t")[0] for line in lines[:-1]] == ([offered] if offered else [])


def test_a_bug_when_it_happens_is_one_line_and_no_traceback() -> None:
    broken = "import sys; from modelrelease.cli import experiment, main; experiment.play_all = None; "
    broken += "import modelrelease.cli.simulate as s; s.play_all = None; sys.exit(main.run(sys.argv[1:]))"
    answer = own_process(broken, "simulate", "-f", EXAMPLE, *QUICK)
    assert answer.code == 2
    assert answer.err.count("\n") == 1
    assert "TypeError" in answer.err


def test_the_group_when_listed_has_the_verbs_of_the_table() -> None:
    assert set(program.list_commands(None)) == set(VERBS)  # type: ignore[arg-type]
