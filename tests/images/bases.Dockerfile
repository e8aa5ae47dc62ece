# Stand-ins for the bases that no test can pull, each a stage; tests/images/conftest.py builds them.
ARG BASE=debian:12-slim
# Of the image `cpu`: its own base, and the certificates by which pip reaches the Python index from here.
FROM ${BASE} AS cpu
ENV PIP_CERT=/opt/certificates.crt
COPY certificates.crt /opt/

FROM ${BASE} AS python
RUN apt-get update && apt-get install -y --no-install-recommends python3-pip python3-venv && rm -rf /var/lib/apt/lists/*
ENV PIP_CERT=/opt/certificates.crt
COPY certificates.crt /opt/

# Of the image `gpu`: a user 1000, a Python that belongs to the system, a Caffe that has only its name.
FROM python AS gpu
RUN useradd --uid 1000 somebody && mkdir -p /opt/caffe/python /opt/caffe/build/tools \
    && echo 'Net = __version__ = "0"' >/opt/caffe/python/caffe.py \
    && printf '#!/bin/sh\necho "caffe version 0"\n' >/opt/caffe/build/tools/caffe && chmod 755 /opt/caffe/build/tools/caffe
ENV PYTHONPATH=/opt/caffe/python PATH=/opt/caffe/build/tools:$PATH

# Of the image `torch`: its Python version in its folder, a torch that has only its name. A real one that is mounted at /torch
# takes its place.
FROM python AS torch
RUN python3 -m venv /opt/conda && mkdir /torch && printf '__version__ = "0"\nclass Tensor: pass\n' >/torch/torch.py \
    && echo /torch >"$(/opt/conda/bin/python3 -c 'import site; print(site.getsitepackages()[0])')/torch.pth"
ENV PATH=/opt/conda/bin:$PATH
