# One image, three roles: `cellrouter router`, `cellrouter controller` and `cell-worker`.

FROM python:3.13-slim AS build
RUN apt-get update && apt-get install --yes --no-install-recommends binutils tini
WORKDIR /src
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
# Without pip in it: the base image's own pip fills it.
RUN python -m venv --without-pip /opt/cellrouter
COPY deploy/lock/runtime.txt .
# Some wheels carry debug symbols, a quarter of what all of them weigh.
RUN pip --python /opt/cellrouter install --require-hashes --requirement runtime.txt \
 && find /opt/cellrouter -name '*.so' -exec strip --strip-unneeded {} +
COPY pyproject.toml README.md LICENSE ./
COPY router router
COPY cell_worker cell_worker
RUN pip --python /opt/cellrouter install --no-deps .

FROM python:3.13-slim
COPY --from=build /usr/bin/tini /usr/bin/tini
COPY --from=build /opt/cellrouter /opt/cellrouter
# Everything that is written lies here; a cell's volume is mounted on it.
RUN useradd --uid 10001 --home-dir /var/lib/cellrouter --no-create-home --shell /usr/sbin/nologin cellrouter \
 && install --directory --owner=10001 --group=10001 /var/lib/cellrouter
USER 10001:10001
WORKDIR /var/lib/cellrouter
ENV PATH=/opt/cellrouter/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    CELLROUTER_API_HOST=0.0.0.0 \
    CELL_HOST=0.0.0.0 \
    CELL_PORT=8080 \
    CELL_DATA_DIR=/var/lib/cellrouter
EXPOSE 8080
# Every role answers on 8080.
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/readyz', timeout=2)"]
# PID 1 can't kill itself, and a worker must be able to; tini passes signals on and ends with the worker's status.
ENTRYPOINT ["tini", "--"]
CMD ["cellrouter", "--help"]
