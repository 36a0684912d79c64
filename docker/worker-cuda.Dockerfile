# A worker on one NVIDIA GPU. It is one process, so that a batch can join calls of many cases. On a machine with several
# GPUs run one container for each. Build it in the root of the repository:
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
    # One thread per task inside the libraries; parallelism comes from the graph.
    OMP_NUM_THREADS=1 \
    MKL_NUM_THREADS=1 \
    OPENBLAS_NUM_THREADS=1 \
    # What the NVIDIA container runtime provides besides the driver; the CUDA libraries come with torch.
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    # The worker serves only /health: its other pages show keys and logs to everyone, over plain HTTP.
    DASK_DISTRIBUTED__WORKER__HTTP__ROUTES="['distributed.http.health']"
WORKDIR /scratch
USER 10001:10001
EXPOSE 8788
# Loading and warming the models takes seconds, up to a minute on a slow disk.
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8788/health', timeout=4)"]
# Set the scheduler by DASK_SCHEDULER_ADDRESS, or as an argument of a command that replaces this one.
CMD ["dask", "worker", "--nthreads", "16", "--resources", "GPU=16", "--no-dashboard", "--dashboard-address", ":8788", "--local-directory", "/scratch", "--preload", "workers.preload"]
