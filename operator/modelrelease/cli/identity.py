"""Who the person at the terminal is and what they may: the API server is asked, as it alone has authenticated them."""

from __future__ import annotations

from dataclasses import dataclass

from modelrelease.api.base import GROUP

from .cluster import Cluster, ClusterError

_REVIEWS = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
_ACCESS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


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


def may(cluster: Cluster, verb: str, plural: str, name: str) -> bool:
    """Whether the user has a verb on an object of ours in the namespace. What cannot be answered counts as yes."""
    asked = {"namespace": cluster.namespace, "verb": verb, "group": GROUP, "resource": plural, "name": name}
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": asked},
    }
    try:
        answer = cluster.create(_ACCESS, body).get("status") or {}
    except ClusterError as error:
        if error.reason in ("Forbidden", "NotFound"):
            return True
        raise
    return bool(answer.get("allowed")) or bool(answer.get("evaluationError"))
