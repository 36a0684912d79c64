# A worker on CPU, for either label. Build it in the root of the repository:
#   docker build --file docker/worker.Dockerfile --build-arg TORCH_INDEX=… --tag veridask-worker:0.1.0 .
# TORCH_INDEX: the index of PyTorch's CPU wheels, as given by pytorch.org for "Pip, CPU". Without it, pip installs torch
# from its default index. On x86-64 that is usually the CUDA build of several GB, which is refused below.
FROM python:3.11.14-slim-bookworm AS build
WORKDIR /src
RUN python -m venv --without-pip /opt/veridask
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_CONSTRAINT=/src/constraints.txt
COPY constraints.txt ./
ARG TORCH_INDEX=""
# Without dependencies, because that index has other versions of them; the next line installs them.
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
    # One thread per task inside the libraries; parallelism comes from the graph.
    OMP_NUM_THREADS=1 \
    MKL_NUM_THREADS=1 \
    OPENBLAS_NUM_THREADS=1 \
    # The worker serves only /health: its other pages show keys and logs to everyone, over plain HTTP.
    DASK_DISTRIBUTED__WORKER__HTTP__ROUTES="['distributed.http.health']"
WORKDIR /scratch
USER 10001:10001
EXPOSE 8788
# Loading and warming the models takes seconds, up to a minute on a slow disk.
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8788/health', timeout=4)"]
# Set the scheduler by DASK_SCHEDULER_ADDRESS, or as an argument of a command that replaces this one.
CMD ["dask", "worker", "--nthreads", "2", "--resources", "CPU=2", "--no-dashboard", "--dashboard-address", ":8788", "--local-directory", "/scratch", "--preload", "workers.preload"]
