"""`python -m e2e.training --tracking-uri http://...`: train, register, and print what was measured."""

import argparse

from e2e.training import MODEL_NAME, train_all


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m e2e.training", description=__doc__)
    parser.add_argument("--tracking-uri", required=True, help="the MLflow server, for example http://127.0.0.1:5000")
    trained = train_all(parser.parse_args().tracking_uri)
    print(f"{MODEL_NAME:<16}{'version':>8}{'accuracy':>10}{'day':>8}{'rain':>8}{'night':>8}")
    for name, version in trained.items():
        recalls = "".join(f"{version.metrics[f'slice/{slice_}/recall']:>8.3f}" for slice_ in ("day", "rain", "night"))
        print(f"{name:<16}{version.version:>8}{version.metrics['accuracy']:>10.3f}{recalls}")


if __name__ == "__main__":
    main()
