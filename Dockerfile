# mcp-image-gen over HTTP: docs/how-to/container.md says how to run it. The engine stays outside, on the machine that has
# the card; the small built-in model is inside.
FROM python:3.13-slim AS build

WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY scripts/links.py scripts/links.py
COPY src src
RUN python -m venv /opt/server \
    && /opt/server/bin/pip install --no-cache-dir --disable-pip-version-check ".[builtin]"


FROM python:3.13-slim

ARG REPOSITORY=unknown
ARG VERSION=unknown
LABEL org.opencontainers.image.title="mcp-image-gen" \
    org.opencontainers.image.description="MCP server that generates images on hardware you own" \
    org.opencontainers.image.licenses="MIT" \
    org.opencontainers.image.source="${REPOSITORY}" \
    org.opencontainers.image.version="${VERSION}"

# The number is fixed, so that a folder of the host can be given to it: chown 10001 FOLDER
RUN useradd --uid 10001 --create-home --home-dir /home/server --shell /usr/sbin/nologin server \
    && install --directory --owner=server --group=server /images /state
COPY --from=build /opt/server /opt/server

# Inside the container 127.0.0.1 is the container itself. IMAGE_GEN_HTTP_TOKEN must come from whoever starts it: without
# a token the server refuses to listen beyond its own machine.
ENV PATH=/opt/server/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    IMAGE_OUTPUT_DIR=/images \
    IMAGE_GEN_STATE_DIR=/state \
    COMFYUI_URL=http://host.docker.internal:8188

USER 10001
WORKDIR /home/server
VOLUME ["/images", "/state"]
EXPOSE 8765

# 401 is the right answer to a call without the token: the server is up.
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import http.client as h; c = h.HTTPConnection('127.0.0.1', 8765, timeout=4); c.request('GET', '/mcp'); raise SystemExit(c.getresponse().status != 401)"]

ENTRYPOINT ["mcp-image-gen"]
CMD ["serve", "--http", "--host", "0.0.0.0", "--port", "8765"]
