"""Settings from the environment: what the defaults are, and what a person reads about nonsense."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelrelease.settings import Settings, SettingsError, from_environment

LEAST = {
    "MODELRELEASE_REGISTRY_URL": "http://mlflow:5000/",
    "MODELRELEASE_PROMETHEUS_URL": "https://prometheus:9090",
    "KUBERNETES_SERVICE_HOST": "10.96.0.1",
    "POD_NAME": "operator-1",
    "POD_NAMESPACE": "system",
}


def test_the_least_environment_of_a_pod_gives_the_defaults() -> None:
    assert from_environment(LEAST) == Settings(
        registry_url="http://mlflow:5000",
        prometheus_url="https://prometheus:9090",
        lease_namespace="system",
        identity="operator-1",
    )


def test_every_variable_is_read(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("secret\n")
    settings = from_environment(
        {
            **LEAST,
            "MODELRELEASE_REGISTRY_TOKEN_FILE": str(file),
            "MODELRELEASE_REGISTRY_CA_FILE": str(file),
            "MODELRELEASE_REGISTRY_ALLOW_ALIAS_WRITES": "true",
            "MODELRELEASE_REGISTRY_ALLOW_FILE_SOURCES": "true",
            "MODELRELEASE_PROMETHEUS_TOKEN_FILE": str(file),
            "MODELRELEASE_PROMETHEUS_CA_FILE": str(file),
            "MODELRELEASE_TICK_SECONDS": "0.5",
            "MODELRELEASE_SAMPLE_LAG_SECONDS": "0",
            "MODELRELEASE_WORKERS": "4",
            "MODELRELEASE_NAMESPACE": "crm",
            "MODELRELEASE_LEASE_NAME": "shard-1",
            "MODELRELEASE_LEASE_NAMESPACE": "elsewhere",
            "MODELRELEASE_IDENTITY": "me",
            "MODELRELEASE_PORT": "9999",
            "MODELRELEASE_LOG_LEVEL": "DEBUG",
            "MODELRELEASE_KUBECONFIG": "/some/kubeconfig",
            "MODELRELEASE_KUBE_TIMEOUT_SECONDS": "3",
            "MODELRELEASE_WEBHOOK_URL": "https://pipelines:8443/hook",
            "MODELRELEASE_WEBHOOK_SECRET_FILE": str(file),
            "MODELRELEASE_WEBHOOK_CA_FILE": str(file),
            "MODELRELEASE_RECORD_RETENTION_DAYS": "30",
            "MODELRELEASE_RESYNC_SECONDS": "60",
        }
    )
    assert settings == Settings(
        registry_url="http://mlflow:5000",
        prometheus_url="https://prometheus:9090",
        registry_token_file=str(file),
        registry_ca_file=str(file),
        registry_allow_alias_writes=True,
        registry_allow_file_sources=True,
        prometheus_token_file=str(file),
        prometheus_ca_file=str(file),
        tick_s=0.5,
        sample_lag_s=0,
        workers=4,
        namespace="crm",
        lease_name="shard-1",
        lease_namespace="elsewhere",
        identity="me",
        port=9999,
        log_level="debug",
        kubeconfig="/some/kubeconfig",
        kube_timeout_s=3,
        webhook_url="https://pipelines:8443/hook",
        webhook_secret_file=str(file),
        webhook_ca_file=str(file),
        record_retention_days=30,
        resync_s=60,
    )


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param({"MODELRELEASE_REGISTRY_URL": ""}, "MODELRELEASE_REGISTRY_URL: not set", id="an empty variable"),
        pytest.param({"MODELRELEASE_PROMETHEUS_URL": "prometheus:9090"}, "is not an http or https URL", id="no scheme"),
        pytest.param(
            {"MODELRELEASE_REGISTRY_URL": "http://me:pw@mlflow"},
            "credentials do not belong into a URL",
            id="a password",
        ),
        pytest.param(
            {"MODELRELEASE_TICK_SECONDS": "5s"}, "MODELRELEASE_TICK_SECONDS: '5s' is not a number", id="a unit"
        ),
        pytest.param(
            {"MODELRELEASE_POD_MONITOR_LABELS": "a=b,c"}, "'c' is not a label and its value", id="half a label"
        ),
        pytest.param({"MODELRELEASE_POD_MONITOR_INTERVAL": "10"}, "'10' is not a duration", id="no unit"),
        pytest.param({"MODELRELEASE_TICK_SECONDS": "nan"}, "nan is not between 0.1 and 600", id="not a number"),
        pytest.param({"MODELRELEASE_WORKERS": "1.5"}, "'1.5' is not a whole number", id="half a worker"),
        pytest.param({"MODELRELEASE_WORKERS": "0"}, "0 is not between 1 and 256", id="no worker"),
        pytest.param(
            {"MODELRELEASE_WEBHOOK_URL": "https://pipelines"},
            "MODELRELEASE_WEBHOOK_SECRET_FILE: needed with MODELRELEASE_WEBHOOK_URL",
            id="a webhook that nobody signs",
        ),
        pytest.param(
            {"MODELRELEASE_RECORD_RETENTION_DAYS": "0"}, "0 is not between 1 and 36500", id="records for no day"
        ),
        pytest.param({"MODELRELEASE_LOG_LEVEL": "loud"}, "'loud' is none of debug, info, warning, error", id="a level"),
        pytest.param(
            {"MODELRELEASE_REGISTRY_ALLOW_FILE_SOURCES": "yes"}, "'yes' is neither true nor false", id="a flag"
        ),
        pytest.param(
            {"MODELRELEASE_REGISTRY_TOKEN_FILE": "/nowhere"}, "there is no file /nowhere", id="a missing file"
        ),
        pytest.param({"MLFLOW_TRACKING_USERNAME": "me"}, "set both or neither", id="a user name without a password"),
        pytest.param(
            {"MLFLOW_TRACKING_USERNAME": "me", "MLFLOW_TRACKING_PASSWORD": "pw", "MLFLOW_TRACKING_TOKEN": "t"},
            "MLFLOW_TRACKING_TOKEN and MLFLOW_TRACKING_USERNAME: set one of them",
            id="two ways to log in",
        ),
        pytest.param(
            {"KUBERNETES_SERVICE_HOST": ""}, "MODELRELEASE_KUBECONFIG: needed outside of a cluster", id="no cluster"
        ),
    ],
)
def test_nonsense_is_refused_by_name(change: dict[str, str], says: str) -> None:
    with pytest.raises(SettingsError) as error:
        from_environment({**LEAST, **change})
    assert says in str(error.value)


FILE = """
registries:
- name: shared
  url: https://mlflow.example/
  tokenFile: /secrets/shared/token
  allow:
  - {namespaces: ["crm*"], models: ["crm/*"]}
defaultRegistry: shared
"""


def test_endpoints_of_a_file_stand_beside_those_of_variables(tmp_path: Path) -> None:
    file = tmp_path / "endpoints.yaml"
    file.write_text(FILE)
    rest = {name: value for name, value in LEAST.items() if name != "MODELRELEASE_REGISTRY_URL"}
    found = from_environment({**rest, "MODELRELEASE_ENDPOINTS_FILE": str(file)}).endpoints

    shared, prometheus = found.registry(""), found.prometheus("")
    assert shared is not None
    assert prometheus is not None
    assert (shared.name, shared.url) == ("shared", "https://mlflow.example")
    assert (prometheus.name, prometheus.url) == ("default", "https://prometheus:9090")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param(FILE, "MODELRELEASE_REGISTRY_URL: set it or name endpoints in", id="named in both places"),
        pytest.param("registries: [", "not YAML", id="not YAML"),
        pytest.param("registrys: []", "registrys: Extra inputs are not permitted", id="an unknown field"),
        pytest.param("defaultRegistry: eu", "registries: the default 'eu' is not among them", id="an unknown default"),
        pytest.param(
            "prometheuses: [{name: a, url: 'http://me:pw@p'}]",
            "prometheuses.0.url: not an http:// or https:// URL without user",
            id="a password",
        ),
        pytest.param(
            "prometheuses: [{name: a, url: 'http://p', headers: {Authorization: x}}]",
            "'Authorization' cannot be set; credentials go into files",
            id="a credential as a header",
        ),
    ],
)
def test_an_endpoints_file_that_cannot_be_meant_is_refused_by_field(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "endpoints.yaml"
    file.write_text(text)
    with pytest.raises(SettingsError) as error:
        from_environment({**LEAST, "MODELRELEASE_ENDPOINTS_FILE": str(file)})
    assert says in str(error.value)


def test_aliases_are_moved_with_the_credentials_of_variables_only_where_a_setting_allows_it() -> None:
    for flag, expected in (("false", False), ("true", True)):
        settings = from_environment({**LEAST, "MODELRELEASE_REGISTRY_ALLOW_ALIAS_WRITES": flag})
        registry = settings.endpoints.registry("")
        assert registry is not None
        assert registry.reads("crm", "churn")
        assert registry.writes("crm", "churn") is expected


def test_outside_of_a_cluster_the_kubeconfig_of_the_shell_is_used_and_the_identity_is_unique() -> None:
    outside = {name: value for name, value in LEAST.items() if name.startswith("MODELRELEASE_")}
    first, second = (from_environment({**outside, "KUBECONFIG": "/k"}) for _ in range(2))
    assert first.kubeconfig == "/k"
    assert first.identity != second.identity
    assert first.lease_namespace == "default"


def test_secrets_are_not_shown() -> None:
    settings = from_environment({**LEAST, "MLFLOW_TRACKING_USERNAME": "me", "MLFLOW_TRACKING_PASSWORD": "hush"})
    assert settings.registry_password == "hush"
    assert "hush" not in str(settings)
