# A laboratory's own image for GPU_BASE: real Caffe, without a GPU. Made of the image `cpu`, whose packages are there already.
ARG BASE=skin-lesion-cam:cpu
FROM ${BASE}
USER root
RUN apt-get update && apt-get install -y --no-install-recommends python3-pip && rm -rf /var/lib/apt/lists/* /project
ENV PIP_CERT=/opt/certificates.crt
COPY certificates.crt /opt/
