# Image `cpu`: Debian 11's Caffe. Built by `make docker TARGET=cpu`; docs/docker.md.
ARG BASE=debian:11-slim
FROM ${BASE}
SHELL ["/bin/bash", "-o", "pipefail", "-c"]

# Any user can run the image (docker run --user): nothing that is written lies in a home folder, and USER is the name of a user
# that has none. CAFFE: a .caffe of the host that is mounted with its folder is not for the image.
ENV ENGINE=caffe PYTHON=python3 CAFFE=/usr/local/caffe HOME=/tmp USER=cam MPLCONFIGDIR=/var/cache/matplotlib PYTHONUNBUFFERED=1

# The release is frozen, so its package names are versions enough. tools/install_caffe.sh unpacks the same list for the tests.
ARG DEBIAN_MIRROR=""
COPY docker/install-packages.sh docker/packages-cpu.txt docker/requirements-cpu.txt /opt/
RUN xargs -a /opt/packages-cpu.txt sh /opt/install-packages.sh make tini python3-pip \
    && python3 -m pip install --no-cache-dir --no-deps -r /opt/requirements-cpu.txt \
    && caffe --version \
    && python3 -c "import caffe, cv2, h5py, lmdb, matplotlib.pyplot, msgspec, skimage, sklearn, tqdm; from google import protobuf" \
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
