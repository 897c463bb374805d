"""Who the person at the terminal is: the API server is asked, as it alone knows whom it has authenticated."""

from __future__ import annotations

from dataclasses import dataclass

from .cluster import Cluster, ClusterError

_REVIEWS = "/apis/authentication.k8s.io/v1/selfsubjectreviews"


@dataclass(frozen=True, slots=True)
class Person:
    """A user. name: empty where the API server would not say."""

    name: str
    groups: tuple[str, ...] = ()


def who_am_i(cluster: Cluster) -> Person:
    """The user as the API server sees them."""
    try:
        review = cluster.create(_REVIEWS, {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"})
    except ClusterError as error:
        if error.reason in ("Forbidden", "NotFound"):
            return Person("")
        raise
    info = (review.get("status") or {}).get("userInfo") or {}
    return Person(str(info.get("username") or ""), tuple(info.get("groups") or ()))
