# A worker on one NVIDIA GPU: one process, so that one batch holds the calls of many cases. A machine with several GPUs
# runs one container for each. Build in the repository's root:
#   docker build --file docker/worker-cuda.Dockerfile --tag veridask-worker-cuda:0.1.0 .
FROM python:3.11.14-slim-bookworm AS build
WORKDIR /src
RUN python -m venv --without-pip /opt/veridask
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_CONSTRAINT=/src/constraints.txt
COPY constraints.txt pyproject.toml README.md LICENSE NOTICE ./
RUN pip --python /opt/veridask/bin/python install ".[worker]" \
    && /opt/veridask/bin/python -c "import sys, torch; sys.exit(0 if torch.version.cuda else 'torch without CUDA')"
COPY models models
COPY workers workers
COPY graphs graphs
RUN pip --python /opt/veridask/bin/python install --no-deps --force-reinstall .

FROM python:3.11.14-slim-bookworm
RUN python -m pip uninstall --yes pip setuptools wheel \
    && useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin veridask \
    && install --directory --owner veridask --group veridask --mode 0700 /scratch
COPY --from=build /opt/veridask /opt/veridask
ENV PATH=/opt/veridask/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    # One thread per task inside the libraries; the graph makes the parallelism.
    OMP_NUM_THREADS=1 \
    MKL_NUM_THREADS=1 \
    OPENBLAS_NUM_THREADS=1 \
    # What the NVIDIA container runtime hands in beside the driver; the CUDA libraries come with torch.
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    # Of the worker's pages only /health is served: the others show keys and logs, as plain HTTP, to everyone.
    DASK_DISTRIBUTED__WORKER__HTTP__ROUTES="['distributed.http.health']"
WORKDIR /scratch
USER 10001:10001
EXPOSE 8788
# Loading and warming the models takes seconds, a minute on a slow disk.
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8788/health', timeout=4)"]
# The scheduler comes from DASK_SCHEDULER_ADDRESS, or as an argument of a command in place of this one.
CMD ["dask", "worker", "--nthreads", "16", "--resources", "GPU=16", "--no-dashboard", "--dashboard-address", ":8788", "--local-directory", "/scratch", "--preload", "workers.preload"]
