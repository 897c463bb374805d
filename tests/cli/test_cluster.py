"""How the plugin finds its cluster and says what was refused; the cluster itself is in tests/cluster/test_cli.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelrelease.cli.cluster import connect, refused

_FILE = """
current-context: prod
contexts:
- {name: prod, context: {cluster: c, user: u, namespace: ranking}}
- {name: test, context: {cluster: c, user: u}}
"""


@pytest.mark.parametrize(
    ("said", "message", "reason"),
    [
        (
            'Error from server (Forbidden): modelreleases.modelrelease.dev "x" is forbidden: User "bob" cannot get '
            'resource "modelreleases" in API group "modelrelease.dev" in the namespace "prod"',
            "not allowed: bob may not get modelreleases.modelrelease.dev in namespace prod; "
            "it needs the verb get on modelreleases.modelrelease.dev in RBAC",
            "Forbidden",
        ),
        (
            'Error from server (Forbidden): nodes is forbidden: User "bob" cannot list resource "nodes" in API group '
            '"" at the cluster scope',
            "not allowed: bob may not list nodes in the whole cluster; it needs the verb list on nodes in RBAC",
            "Forbidden",
        ),
        (
            'Error from server (NotFound): modelreleases.modelrelease.dev "x" not found',
            'modelreleases.modelrelease.dev "x" not found',
            "NotFound",
        ),
        (
            "Error from server (NotFound): the server could not find the requested resource",
            "the API server does not know this kind: are the CRDs of modelrelease installed?",
            "NotFound",
        ),
        ('error: context "nope" does not exist', 'context "nope" does not exist', "Failed"),
        ("", "kubectl failed and said nothing", "Failed"),
    ],
)
def test_refused_when_kubectl_fails_says_what_is_missing_in_one_line(said: str, message: str, reason: str) -> None:
    error = refused(said)
    assert (error.message, error.reason) == (message, reason)


@pytest.mark.parametrize(
    ("flags", "namespace"),
    [
        ({}, "ranking"),
        ({"context": "test"}, "default"),
        ({"namespace": "mine"}, "mine"),
        ({"context": "unknown"}, "default"),  # kubectl will say so
    ],
)
def test_namespace_when_flags_say_nothing_is_that_of_the_context(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: dict[str, str], namespace: str
) -> None:
    (tmp_path / "config").write_text(_FILE)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    assert connect(**flags).namespace == namespace


def test_namespace_when_kubeconfigs_are_many_takes_the_first_that_says_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "one").write_text("current-context: test\n")
    (tmp_path / "two").write_text(_FILE.replace("user: u}}", "user: u, namespace: trials}}"))
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path / 'one'}:{tmp_path / 'absent'}:{tmp_path / 'two'}")
    assert connect().namespace == "trials"
    assert connect(kubeconfig=str(tmp_path / "two")).namespace == "ranking"


def test_flags_when_given_are_handed_to_kubectl(tmp_path: Path) -> None:
    where = connect("mine", str(tmp_path / "config"), "prod")
    assert where.flags == (f"--kubeconfig={tmp_path / 'config'}", "--context=prod")
