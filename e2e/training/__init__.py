"""Real models with real strengths and defects, trained on scikit-learn's digits and logged to MLflow.

`scans` makes the data and the requests, `transforms` is the code packaged with the models, `train` fits and registers.
"""

from e2e.training.scans import sample_requests
from e2e.training.train import CANDIDATES, MODEL_NAME, TrainedVersion, train_all

__all__ = ["CANDIDATES", "MODEL_NAME", "TrainedVersion", "sample_requests", "train_all"]
