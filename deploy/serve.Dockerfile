# vLLM on an NVIDIA GPU, started by `vip serve`, so that the served name carries the digest of the weights.
#   docker build -f deploy/serve.Dockerfile -t vip-serve:0.1.0 .
# Name the base by the digest that you trust: --build-arg PYTHON=python:3.11.14-slim-bookworm@sha256:...
ARG PYTHON=python:3.11.14-slim-bookworm
FROM ${PYTHON}

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1

# A C compiler: Triton builds its launchers when a model is loaded. tini hands signals on.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev tini && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home --home-dir /scratch vip

WORKDIR /opt/vip
COPY requirements/hashes/serve-gpu.txt requirements/hashes/
RUN python -m pip install --no-deps --require-hashes -r requirements/hashes/serve-gpu.txt
COPY schemas/ schemas/
COPY storage/ storage/
COPY vip/ vip/
COPY flows/ flows/

ENV HOME=/scratch VIP_SCRATCH=/scratch/vip PYTHONPATH=/opt/vip VIP_SERVE_PYTHON=/usr/local/bin/python
USER 10001:10001

EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=30m \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
ENTRYPOINT ["tini", "--", "python", "-m", "flows.cli", "serve", "--host", "0.0.0.0", "--port", "8000"]
