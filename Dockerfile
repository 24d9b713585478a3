# The server as an image: docs/deployment.md, "Container". With --build-arg BASE=python:3.11-slim-bookworm@sha256:... the base is pinned by its digest.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
COPY pyproject.toml setup.py LICENSE /src/
COPY docs/pypi.md /src/docs/pypi.md
COPY src /src/src
COPY clients/python /src/clients/python
# The pages serve it: src/channelstream/pages/static has a link to it.
COPY clients/js/channelstream.js /src/clients/js/
# --build-arg EXTRAS=[otel] installs what spans need: docs/opentelemetry.md.
ARG EXTRAS=
# --build-arg COMPILED= leaves the hot paths uncompiled, which needs no compiler: docs/deployment.md, "Compiled build".
ARG COMPILED=1
RUN test -z "${COMPILED}" || command -v gcc >/dev/null \
    || (apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev)
# The server needs no pip: the one of the base installs into its environment.
RUN python -m venv --without-pip /opt/channelstream \
    && CHANNELSTREAM_COMPILED="${COMPILED}" pip --python /opt/channelstream/bin/python install --no-cache-dir /src/clients/python "/src${EXTRAS}"

FROM ${BASE}
LABEL org.opencontainers.image.title="channelstream" \
      org.opencontainers.image.description="A push server over WebSocket, SSE and long poll" \
      org.opencontainers.image.version="1.0.0.dev0" \
      org.opencontainers.image.licenses="MIT"
COPY --from=build /opt/channelstream /opt/channelstream
# For the file of the SQLite engine. A new volume that is mounted here gets this owner.
RUN install --directory --mode=700 --owner=10001 --group=10001 /var/lib/channelstream
ENV PATH=/opt/channelstream/bin:/usr/local/bin:/usr/bin:/bin \
    CHANNELSTREAM_HOST=0.0.0.0 \
    CHANNELSTREAM_PORT=8000 \
    PROBE=/healthz
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
# Some platforms replace a container that is not healthy. So this asks whether the process serves: while Redis is out of reach
# a restart would only close the streams. Where a load balancer or a rolling upgrade waits for it: PROBE=/readyz.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["python", "-ISc", "import http.client, os, sys; c = http.client.HTTPConnection('127.0.0.1', int(os.environ['CHANNELSTREAM_PORT']), timeout=4); c.request('GET', os.environ['PROBE']); sys.exit(c.getresponse().status != 200)"]
CMD ["channelstream"]
