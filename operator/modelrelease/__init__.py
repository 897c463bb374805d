"""modelrelease: releases machine-learning models on Kubernetes through gates, canaries and automatic rollback."""

__version__ = "0.1.0"
