# The operator. BASE may be any image with Python 3.11 or newer and its venv module on Debian.
ARG BASE=python:3.11-slim

FROM ${BASE} AS build
# Of the Kubernetes client only what reads credentials is used; its generated models and APIs, which it imports when they
# are asked for, are 120 MB. kopf asks for three of them. tests/cluster/test_image_client.py runs what is left.
WORKDIR /build
COPY requirements.lock requirements-build.lock ./
RUN python3 -m venv /opt/venv && python3 -m venv /opt/builder \
 && /opt/venv/bin/pip install --no-cache-dir --no-compile --disable-pip-version-check --only-binary :all: \
      --require-hashes -r requirements.lock \
 && /opt/builder/bin/pip install --no-cache-dir --disable-pip-version-check --only-binary :all: \
      --require-hashes -r requirements-build.lock \
 && /opt/venv/bin/pip uninstall -q -y pip setuptools \
 && find /opt/venv -type d -name tests -prune -exec rm -rf {} + \
 && find /opt/venv -name '*.pyi' -delete \
 && find /opt/venv/lib/python3*/site-packages/kubernetes -type f -regex '.*/client/\(models\|api\)/.*' \
      ! -name __init__.py ! -path '*/kubernetes/client/models/v1_object_meta.py' \
      ! -path '*/kubernetes/client/models/v1_owner_reference.py' \
      ! -path '*/kubernetes/client/models/v1_managed_fields_entry.py' -delete \
 && python3 -m compileall -q --invalidation-mode unchecked-hash /opt/venv/lib
COPY pyproject.toml LICENSE ./
COPY operator ./operator
# A layer of its own for the operator's code: a change to it leaves the large layer of its dependencies alone.
# The README is only named by the metadata; its text is of no use here.
RUN touch README.md \
 && /opt/builder/bin/pip install --no-cache-dir --no-compile --disable-pip-version-check --no-deps --no-build-isolation \
      --target /opt/operator . \
 && python3 -m compileall -q --invalidation-mode unchecked-hash /opt/operator

FROM ${BASE}
COPY --from=build /opt/venv /opt/venv
COPY --from=build /opt/operator /opt/operator
# HOME and LOGNAME: the user has no entry in /etc/passwd. The root file system may be read-only.
ENV PATH=/opt/venv/bin:$PATH PYTHONPATH=/opt/operator HOME=/tmp LOGNAME=nonroot \
    PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 MLFLOW_DISABLE_TELEMETRY=true
USER 65532:65532
ENTRYPOINT ["python", "-m", "modelrelease"]
