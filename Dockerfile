# Two images from one file:
#   docker build --target web -t labelwheel-web .      pages, API, CPU jobs, clock; without PyTorch
#   docker build --target torch -t labelwheel-torch .  the same and PyTorch: training and serving

FROM node:22-bookworm-slim AS pages
WORKDIR /build
COPY frontend/package.json frontend/package-lock.json frontend/.npmrc ./
RUN npm ci --no-fund --no-audit
COPY frontend/ ./
RUN npm run build

FROM python:3.12-slim-bookworm AS web
ENV PYTHONUNBUFFERED=1 \
    OMP_WAIT_POLICY=PASSIVE \
    PYTHONDONTWRITEBYTECODE=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    LABELWHEEL_HOME=/var/lib/labelwheel
RUN useradd --system --uid 10001 --user-group --home-dir /var/lib/labelwheel --create-home labelwheel
WORKDIR /opt/labelwheel
COPY pyproject.toml constraints.txt ./
RUN pip install --upgrade "pip>=25.1" && pip install --group web -c constraints.txt
COPY manage.py ./
COPY labeling/ labeling/
COPY flywheel/ flywheel/
COPY ml/ ml/
COPY --from=pages /build/dist/ frontend/dist/
# The key of the build is thrown away with the process; the running service demands its own.
RUN LABELWHEEL_SECRET_KEY=only-for-the-build python manage.py collectstatic --no-input --verbosity 0 \
    && mkdir -p /var/lib/labelwheel/work \
    && chown -R labelwheel:labelwheel /var/lib/labelwheel
USER labelwheel
EXPOSE 8000

FROM web AS torch
# Where no NVIDIA GPU is used: --build-arg TORCH_PIP_ARGS="--index-url <PyTorch's CPU index>".
ARG TORCH_PIP_ARGS=""
# For architectures from elsewhere: --build-arg EXTRA_GROUPS="--group transformers".
ARG EXTRA_GROUPS=""
USER root
RUN pip install torch==2.13.0 ${TORCH_PIP_ARGS} && pip install --group ml --group onnx ${EXTRA_GROUPS} -c constraints.txt
USER labelwheel
EXPOSE 8001
