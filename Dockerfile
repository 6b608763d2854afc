# One image, three roles: `cellrouter router`, `cellrouter controller` and `cell-worker`.

# `script/lock images` pins it by its digest; elsewhere: --build-arg PYTHON_IMAGE=…
ARG PYTHON_IMAGE=python:3.13-slim

FROM ${PYTHON_IMAGE} AS build
RUN apt-get update && apt-get install --yes --no-install-recommends binutils tini
WORKDIR /src
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
# Without pip in it: the base image's own pip fills it.
RUN python -m venv --without-pip /opt/cellrouter
# `embedded` has what SQL over the sales of the shop needs: deploy/compose/shop.yml.
ARG LOCK=runtime
COPY deploy/lock/build.txt deploy/lock/${LOCK}.txt ./
# Some wheels carry debug symbols, a quarter of what all of them weigh. Python files are compiled by content, not by
# time: the same lock file and sources make the same files. Nothing of ours colours source code: the lexers stay as
# they are, which is 4 MB less.
RUN pip install --require-hashes --requirement build.txt \
 && pip --python /opt/cellrouter install --no-compile --require-hashes --requirement ${LOCK}.txt \
 && find /opt/cellrouter -name '*.so' -exec strip --strip-unneeded {} + \
 && python -m compileall -q -j 0 -x /pygments/lexers/ --invalidation-mode unchecked-hash /opt/cellrouter/lib
COPY pyproject.toml README.md LICENSE ./
COPY deploy/cloudformation deploy/cloudformation
COPY router router
COPY cell_worker cell_worker
RUN SOURCE_DATE_EPOCH=315532800 pip wheel --no-build-isolation --no-deps --wheel-dir /wheels . \
 && pip --python /opt/cellrouter install --no-compile --no-deps /wheels/*.whl \
 && python -m compileall -q --invalidation-mode unchecked-hash /opt/cellrouter/lib/*/site-packages/router \
      /opt/cellrouter/lib/*/site-packages/cell_worker

FROM ${PYTHON_IMAGE}
COPY --from=build /usr/bin/tini /usr/bin/tini
COPY --from=build /opt/cellrouter /opt/cellrouter
# Everything that is written lies in /var/lib/cellrouter; a cell's volume is mounted on it. A volume with the secret is
# mounted on /etc/cellrouter, and begins with its owner.
RUN useradd --uid 10001 --home-dir /var/lib/cellrouter --no-create-home --shell /usr/sbin/nologin cellrouter \
 && install --directory --owner=10001 --group=10001 /var/lib/cellrouter \
 && install --directory --owner=10001 --group=10001 --mode=0700 /etc/cellrouter
USER 10001:10001
WORKDIR /var/lib/cellrouter
ENV PATH=/opt/cellrouter/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    CELLROUTER_API_HOST=:: \
    CELL_HOST=:: \
    CELL_PORT=8080 \
    CELL_DATA_DIR=/var/lib/cellrouter
EXPOSE 8080
# Fargate mounts its scratch space here, and only so it belongs to whom it does in the image.
VOLUME /tmp
# Every role answers on 8080. Python without its site packages: the check costs a quarter of what urllib does.
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-ISc", "import socket as s; c = s.create_connection(('127.0.0.1', 8080), 2); c.sendall(b'GET /readyz HTTP/1.0\\r\\n\\r\\n'); raise SystemExit(b' 200 ' not in c.recv(64))"]
# PID 1 can't kill itself, and a worker must be able to; tini passes signals on and ends with the worker's status.
ENTRYPOINT ["tini", "--"]
CMD ["cellrouter", "--help"]
