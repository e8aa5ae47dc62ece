# Three images of this project; docs/docker.md shows how to run them. Their last lines, from WORKDIR on, are the same.
#   make docker                   target gpu (the default): Caffe with CUDA 11.8
#   make docker TARGET=cpu        Debian's Caffe for the CPU
#   make docker TARGET=torch      torchcaffe on PyTorch, for GPUs newer than CUDA 11.8 knows

# A tag can be moved to other contents, a digest (sha256:...) cannot: see docs/docker.md, "Pinning".
ARG GPU_DIGEST=""
ARG CPU_DIGEST=""
ARG TORCH_DIGEST=""


FROM pytorch/pytorch:2.7.1-cuda12.8-cudnn9-runtime${TORCH_DIGEST:+@${TORCH_DIGEST}} AS torch
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# Any user can run the image (docker run --user), so nothing that is written lies in a home folder. CAFFE: a .caffe of the host
# that is mounted with its folder is not for the image.
ENV ENGINE=torch PYTHON=python3 CAFFE=/none HOME=/tmp MPLCONFIGDIR=/tmp/matplotlib
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends make tini \
    && useradd --uid 1000 --create-home cam && install -d -o cam -g cam /project \
    && rm -rf /var/lib/apt/lists/*
COPY docker/constraints-torch.txt /opt/
RUN python3 -m pip install --no-cache-dir -c /opt/constraints-torch.txt \
        h5py lmdb matplotlib numpy opencv-python-headless protobuf pytest scikit-image scikit-learn tqdm \
    && python3 -c "import torch, cv2, lmdb, skimage, sklearn; from google import protobuf"
WORKDIR /project
COPY --chown=cam:cam . .
USER 1000:1000
ENTRYPOINT ["tini", "--", "make"]


FROM debian:11-slim${CPU_DIGEST:+@${CPU_DIGEST}} AS cpu
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
ENV ENGINE=caffe PYTHON=python3 CAFFE=/none HOME=/tmp MPLCONFIGDIR=/tmp/matplotlib
COPY docker/packages-cpu.txt /opt/
# The release is frozen, so its package names are versions enough. tools/install_caffe.sh unpacks the same list for the tests.
# hadolint ignore=DL3008
RUN apt-get update \
    && xargs -a /opt/packages-cpu.txt apt-get install -y --no-install-recommends make tini \
    && useradd --uid 1000 --create-home cam && install -d -o cam -g cam /project \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -c "import caffe, cv2, lmdb, skimage, sklearn" && caffe --version
WORKDIR /project
COPY --chown=cam:cam . .
USER 1000:1000
ENTRYPOINT ["tini", "--", "make"]


FROM duruyao/caffe:gpu${GPU_DIGEST:+@${GPU_DIGEST}} AS gpu
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
ENV ENGINE=caffe PYTHON=python3 CAFFE=/none HOME=/tmp MPLCONFIGDIR=/tmp/matplotlib
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends make tini \
    && useradd --uid 1000 --create-home cam && install -d -o cam -g cam /project \
    && rm -rf /var/lib/apt/lists/*
COPY docker/constraints-gpu.txt /opt/
# Caffe is imported before cv2: each brings an OpenCV of its own, and this order is the one that is tested here.
RUN python3 -m pip install --no-cache-dir -c /opt/constraints-gpu.txt \
        lmdb matplotlib numpy opencv-python-headless protobuf pytest scikit-image scikit-learn tqdm \
    && python3 -c "import caffe, cv2, lmdb, skimage, sklearn" && caffe --version
WORKDIR /project
COPY --chown=cam:cam . .
USER 1000:1000
ENTRYPOINT ["tini", "--", "make"]
