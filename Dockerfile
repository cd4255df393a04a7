# The edge image: what locks/edge.txt pins, the wheel, and nothing to build with.
ARG BASE=python:3.11-slim

FROM ${BASE} AS build
WORKDIR /src
COPY locks/edge.txt locks/edge.txt
RUN python3 -m venv /opt/ems \
    && /opt/ems/bin/pip install --no-cache-dir --require-hashes --only-binary :all: -r locks/edge.txt
COPY . .
RUN /opt/ems/bin/pip install --no-cache-dir --no-deps --no-build-isolation . \
    && /opt/ems/bin/pip uninstall -y setuptools pip

FROM ${BASE}
RUN useradd --system --uid 10001 --home-dir /data --shell /usr/sbin/nologin ems \
    && install -d -o ems -g ems -m 0750 /data
COPY --from=build /opt/ems /opt/ems
ENV PATH=/opt/ems/bin:$PATH PYTHONUNBUFFERED=1 EMS_HOST=127.0.0.1 EMS_PORT=8080
USER ems
WORKDIR /data
VOLUME /data
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \
    CMD ["python3", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ['EMS_PORT'] + '/healthz', timeout=2)"]
ENTRYPOINT ["ems"]
CMD ["--help"]
