# API and scheduler: everything except the models; no torch, no cv2. Build it in the root of the repository:
#   docker build --file docker/api.Dockerfile --tag veridask-api:0.1.0 .
FROM python:3.11.14-slim-bookworm AS build
WORKDIR /src
RUN python -m venv --without-pip /opt/veridask
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_CONSTRAINT=/src/constraints.txt
# Install the libraries first, without the code, so that a change of the code does not rebuild this layer.
COPY constraints.txt pyproject.toml README.md LICENSE NOTICE ./
RUN pip --python /opt/veridask/bin/python install ".[api,postgres,tracing]"
COPY models models
COPY workers workers
COPY graphs graphs
COPY service service
RUN pip --python /opt/veridask/bin/python install --no-deps --force-reinstall .

FROM python:3.11.14-slim-bookworm
RUN python -m pip uninstall --yes pip setuptools wheel \
    && useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin veridask \
    && install --directory --owner veridask --group veridask --mode 0700 /data
COPY --from=build /opt/veridask /opt/veridask
ENV PATH=/opt/veridask/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    VERIDASK_DATA_DIR=/data \
    # The scheduler serves only /health: its other pages show keys and logs to everyone, over plain HTTP.
    DASK_DISTRIBUTED__SCHEDULER__HTTP__ROUTES="['distributed.http.health']"
WORKDIR /data
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
CMD ["veridask", "api", "--host", "0.0.0.0", "--port", "8000"]
