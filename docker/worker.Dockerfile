# A worker on CPU; it takes either label. Build in the repository's root:
#   docker build --file docker/worker.Dockerfile --build-arg TORCH_INDEX=… --tag veridask-worker:0.1.0 .
# TORCH_INDEX: the index of PyTorch's CPU wheels, as pytorch.org names it for "Pip, CPU". Without it pip takes torch
# from where it takes everything else, which on x86-64 is mostly the CUDA build: several GB, refused below.
FROM python:3.11.14-slim-bookworm AS build
WORKDIR /src
RUN python -m venv --without-pip /opt/veridask
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_CONSTRAINT=/src/constraints.txt
COPY constraints.txt ./
ARG TORCH_INDEX=""
# Without its dependencies, which that index holds in other versions: they come with the next line.
RUN pip --python /opt/veridask/bin/python install --no-deps ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch \
    && python -c "import runpy, sys; made = runpy.run_path('/opt/veridask/lib/python3.11/site-packages/torch/version.py'); sys.exit('CUDA torch: set TORCH_INDEX' if made['cuda'] else 0)"
COPY pyproject.toml README.md LICENSE NOTICE ./
RUN pip --python /opt/veridask/bin/python install ".[worker]"
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
    # Of the worker's pages only /health is served: the others show keys and logs, as plain HTTP, to everyone.
    DASK_DISTRIBUTED__WORKER__HTTP__ROUTES="['distributed.http.health']"
WORKDIR /scratch
USER 10001:10001
EXPOSE 8788
# Loading and warming the models takes seconds, a minute on a slow disk.
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8788/health', timeout=4)"]
# The scheduler comes from DASK_SCHEDULER_ADDRESS, or as an argument of a command in place of this one.
CMD ["dask", "worker", "--nthreads", "2", "--resources", "CPU=2", "--no-dashboard", "--dashboard-address", ":8788", "--local-directory", "/scratch", "--preload", "workers.preload"]
