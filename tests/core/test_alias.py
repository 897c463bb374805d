"""The registry's alias: moved on promotion, given back on a return, told when it cannot be; of this model only."""

from __future__ import annotations

from dataclasses import replace

import pytest

from modelrelease.api.reasons import Reason
from modelrelease.api.status import AliasStatus
from modelrelease.core.observation import AliasTarget, Missing, RegistryView, Unavailable
from modelrelease.core.wants import AliasWrite
from tests.core.builders import NOW, Release, idle

REFUSED = Unavailable(Reason.ALIAS_WRITE_FAILED, "alias champion of churn was not moved: HTTP 403")
GONE = Missing(Reason.ALIAS_NOT_FOUND, "churn has no alias 'champion'")
NO_MODEL = Missing(Reason.MODEL_NOT_FOUND, "there is no model 'churn'")


def moving(state: str = "Pending", **changes: object) -> Release:
    """Version 7 was promoted; the alias champion is on its way from version 6."""
    case = idle(7, registry={"setAlias": "champion"}, **changes)
    alias = AliasStatus.model_validate({"alias": "champion", "version": "7", "former": "6", "state": state})
    return replace(case, status=case.status.model_copy(update={"alias": alias}))


def reading(case: Release, found: AliasTarget | Missing | Unavailable) -> AliasStatus:
    """What the next status says of the alias, once the registry has said this."""
    alias = case.see(registry=RegistryView({}, {"champion": found})).decided().status.alias
    assert alias is not None
    return alias


@pytest.mark.parametrize(
    ("state", "found", "after"),
    [
        pytest.param("Pending", AliasTarget("7", NOW), "Written", id="it stands where it should"),
        pytest.param("Pending", AliasTarget("6", NOW), "Pending", id="it has not been moved yet"),
        pytest.param("Pending", GONE, "Pending", id="it does not exist yet"),
        pytest.param("Restoring", AliasTarget("7", NOW), "Restored", id="it was given back"),
        pytest.param("Restoring", AliasTarget("6", NOW), "Restoring", id="it has not been given back yet"),
        pytest.param("Restoring", AliasTarget("5", NOW), "Lost", id="somebody else has moved it"),
        pytest.param("Restoring", GONE, "Lost", id="somebody else has removed it"),
    ],
)
def test_the_alias_is_what_the_registry_says(state: str, found: AliasTarget | Missing, after: str) -> None:
    assert (reading(moving(state), found).state, reading(moving(state), found).message) == (after, "")


@pytest.mark.parametrize("found", [REFUSED, NO_MODEL], ids=["a write that is refused", "a model that is gone"])
def test_what_keeps_the_alias_from_being_moved_is_told_once_and_forgotten_when_it_is(
    found: Unavailable | Missing,
) -> None:
    case = moving().see(registry=RegistryView({}, {"champion": found}))
    words = f"alias champion is yet to point at v7: {found.message}; it is tried again"
    assert [(item.type, item.reason.value, item.note) for item in case.announced()] == [
        ("Warning", "AliasWriteFailed", words)
    ]
    told = case.decided()
    assert told.status.alias is not None
    assert told.status.alias.message == found.message
    assert told.announced() == ()
    assert reading(told, AliasTarget("7", NOW)) == AliasStatus(
        alias="champion", version="7", former="6", state="Written"
    )


def test_an_alias_that_must_not_be_moved_has_a_reason_of_its_own() -> None:
    denied = Unavailable(Reason.ALIAS_WRITE_NOT_ALLOWED, "namespace crm may not move aliases of model churn")
    case = moving().see(registry=RegistryView({}, {"champion": denied}))

    assert [item.reason.value for item in case.announced()] == ["AliasWriteNotAllowed"]
    assert reading(case, denied).reason == "AliasWriteNotAllowed"


def test_an_alias_that_is_yet_to_be_moved_is_asked_for() -> None:
    wants = moving().see(registry=RegistryView()).decision().wants.registry
    assert wants is not None
    assert wants.write == AliasWrite("churn", "champion", "7")


def test_the_alias_of_another_model_is_never_moved() -> None:
    case = moving(model={"name": "other", "version": 7}).see(registry=RegistryView())
    wants = case.decision().wants.registry
    assert wants is not None
    assert (wants.model, wants.write) == ("other", None)
    assert reading(case, AliasTarget("7", NOW)).state == "Pending", "read of the other model"
