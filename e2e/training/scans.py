"""The data: scikit-learn's 8x8 digits as a roadside camera would scan them by day, in rain and at night.

Here live the splits, the light and weather conditions, and the requests that production would send. No model lives
here. Everything is a function of fixed seeds: two calls, on two machines, give the same scans.

Training and holdout images never overlap. The holdout mirrors the conditions of real traffic but not its dead pixels:
it was cleaned before it was labelled. That gap between evaluation and reality is what the candidate `brittle` falls
into.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits  # type: ignore[import-untyped]
from sklearn.model_selection import train_test_split  # type: ignore[import-untyped]

Scans = NDArray[np.float64]
"""One row an image: 64 pixels, whole numbers from 0 (dark) to 16 (bright), NaN where the pixel is dead."""
Labels = NDArray[np.int64]

CONDITIONS = {"day": 0.70, "rain": 0.15, "night": 0.15}
"""Each condition's share of traffic, and of the holdout."""
DEAD_PIXEL_SHARE = 0.35
"""Share of real requests with some dead pixels."""

_SEED = 20
_TRAIN_IMAGES = 900


@dataclass(frozen=True, slots=True)
class Labelled:
    """Scans with their digits."""

    scans: Scans
    labels: Labels

    def __len__(self) -> int:
        return len(self.labels)


def training_set(images: int, *, night_images: int | None = None) -> Labelled:
    """The first `images` training images in every condition; of those by night only the first `night_images`.

    `images` is at most 900.
    """
    scans, labels, _, _ = _split()
    rng = np.random.default_rng(_SEED + 1)
    counts = {"day": images, "rain": images, "night": images if night_images is None else night_images}
    parts = {condition: (scans[:count], labels[:count]) for condition, count in counts.items()}
    return Labelled(
        np.vstack([_scan(condition, part, rng) for condition, (part, _) in parts.items()]),
        np.concatenate([part_labels for _, part_labels in parts.values()]),
    )


def holdout() -> dict[str, Labelled]:
    """The evaluation data by condition, sized as in CONDITIONS. No image is used twice."""
    _, _, scans, labels = _split()
    rng = np.random.default_rng(_SEED + 2)
    edges = np.cumsum([round(share * len(scans)) for share in CONDITIONS.values()])[:-1]
    parts = zip(CONDITIONS, np.split(scans, edges), np.split(labels, edges), strict=True)
    return {condition: Labelled(_scan(condition, part, rng), part_labels) for condition, part, part_labels in parts}


def sample_requests(count: int = 200) -> list[dict[str, Any]]:
    """Request bodies as production would send them, one scan each, in a fixed mixed order.

    Conditions come in the shares of CONDITIONS; DEAD_PIXEL_SHARE of the requests have one to four `null` pixels.
    """
    rng = np.random.default_rng(_SEED + 3)
    by_condition = holdout()
    bodies: list[dict[str, Any]] = []
    for number in range(count):
        part = by_condition[str(rng.choice(list(CONDITIONS), p=list(CONDITIONS.values())))]
        pixels: list[float | None] = part.scans[rng.integers(len(part))].tolist()
        # Spread evenly over the list, so that each stretch of traffic has its share of them.
        if int((number + 1) * DEAD_PIXEL_SHARE) > int(number * DEAD_PIXEL_SHARE):
            for dead in rng.choice(64, size=rng.integers(1, 5), replace=False):
                pixels[dead] = None
        bodies.append({"instances": [pixels]})
    return bodies


def _split() -> tuple[Scans, Labels, Scans, Labels]:
    scans, labels = load_digits(return_X_y=True)
    train_scans, test_scans, train_labels, test_labels = train_test_split(
        scans, labels, train_size=_TRAIN_IMAGES, random_state=_SEED, stratify=labels
    )
    return train_scans, train_labels, test_scans, test_labels


def _scan(condition: str, scans: Scans, rng: np.random.Generator) -> Scans:
    match condition:
        case "night":  # a fifth of the light, and the sensor's noise
            return np.clip(np.round(scans * 0.2 + rng.normal(0, 0.7, scans.shape)), 0, 16)
        case "rain":  # two bright streaks from top to bottom
            streaks = np.zeros((len(scans), 8, 8))
            for streak in streaks:
                for column in rng.integers(0, 8, size=2):
                    streak[:, column] += rng.integers(4, 12)
            return np.clip(scans + streaks.reshape(len(scans), 64), 0, 16)
        case _:
            return scans
