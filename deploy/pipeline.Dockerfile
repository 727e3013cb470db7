# The pipeline: Prefect's server, the worker of a Kubernetes pool, and the pods of its runs, with or without an NVIDIA GPU.
#   docker build -f deploy/pipeline.Dockerfile -t vip-pipeline:0.1.0 --build-arg COMMIT=$(git rev-parse HEAD) .
# Name the base by the digest that you trust: --build-arg PYTHON=python:3.11.14-slim-bookworm@sha256:...
ARG PYTHON=python:3.11.14-slim-bookworm
FROM ${PYTHON}

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    PREFECT_SERVER_ANALYTICS_ENABLED=false DO_NOT_TRACK=1

# tini hands signals on and reaps what a killed run leaves.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends tini && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home --home-dir /scratch vip

WORKDIR /opt/vip
COPY requirements/hashes/ requirements/hashes/
RUN python -m pip install --no-deps --require-hashes -r requirements/hashes/build.txt \
    && python -m pip install --no-deps --no-build-isolation --require-hashes -r requirements/hashes/pipeline.txt \
    -r requirements/hashes/cuda.txt -r requirements/hashes/kubernetes.txt
COPY . .
RUN python -m pip install --no-deps --no-build-isolation --editable .

# All that outlives a run lies under /scratch: journals, training states, logs. Give it a volume; what is being made lies in /tmp.
ARG COMMIT=
ENV HOME=/scratch VIP_SCRATCH=/scratch/vip PREFECT_HOME=/scratch/prefect VIP_COMMIT=${COMMIT}
USER 10001:10001

HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/health', timeout=4)"]
ENTRYPOINT ["tini", "--"]
CMD ["prefect", "worker", "start", "--pool", "vip", "--with-healthcheck"]
