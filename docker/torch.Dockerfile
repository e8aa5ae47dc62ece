# Image `torch`: torchcaffe on PyTorch, for GPUs newer than CUDA 11.8 knows. Built by `make docker TARGET=torch`; docs/docker.md.
ARG BASE=pytorch/pytorch:2.7.1-cuda12.8-cudnn9-runtime
FROM ${BASE}
SHELL ["/bin/bash", "-o", "pipefail", "-c"]

# Any user can run the image (docker run --user): nothing that is written lies in a home folder, and USER is the name of a user
# that has none. CAFFE: a .caffe of the host that is mounted with its folder is not for the image.
ENV ENGINE=torch PYTHON=python3 CAFFE=/usr/local/caffe HOME=/tmp USER=cam MPLCONFIGDIR=/var/cache/matplotlib PYTHONUNBUFFERED=1

COPY docker/install-packages.sh docker/requirements-torch.txt /opt/
RUN sh /opt/install-packages.sh make tini \
    && PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install --no-cache-dir -r /opt/requirements-torch.txt \
    && python3 -c "import torch, cv2, h5py, lmdb, matplotlib.pyplot, msgspec, skimage, sklearn, tqdm; from google import protobuf" \
    && chmod -R a+rwX "${MPLCONFIGDIR}" \
    && install -d -o 1000 -g 1000 /project

WORKDIR /project
COPY --chown=1000:1000 . .
USER 1000:1000
RUN python3 -m pycam --version && python3 -m data_tools --help >/dev/null
ENTRYPOINT ["tini", "-g", "--", "make"]
ARG SOURCE=""
ARG VERSION=""
ARG REVISION=""
LABEL org.opencontainers.image.title="skin-lesion-cam" org.opencontainers.image.licenses="BSD-2-Clause" \
      org.opencontainers.image.source="${SOURCE}" org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
