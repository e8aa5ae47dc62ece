# A stand-in for the base of the image `gpu`: a user 1000, a Python that belongs to the system, a Caffe that has only its name.
ARG BASE=debian:12-slim
FROM ${BASE}
RUN apt-get update && apt-get install -y --no-install-recommends python3-pip && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 somebody && mkdir -p /opt/caffe/python /opt/caffe/build/tools \
    && echo 'Net = __version__ = "0"' >/opt/caffe/python/caffe.py \
    && printf '#!/bin/sh\necho "caffe version 0"\n' >/opt/caffe/build/tools/caffe && chmod 755 /opt/caffe/build/tools/caffe
ENV PYTHONPATH=/opt/caffe/python PATH=/opt/caffe/build/tools:$PATH PIP_CERT=/opt/certificates.crt
COPY certificates.crt /opt/
