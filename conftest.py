"""What tests of every kind share: one MLflow server with trained models, and the order that takes the least time."""

import pytest

pytest_plugins = ("e2e.local_fixtures",)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "long: takes a minute or more, mostly waiting, so it is begun first")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what is long, so that no process is left alone with it at the end."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)
