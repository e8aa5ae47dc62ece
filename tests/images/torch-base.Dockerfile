# A stand-in for the base of the image `torch`: its Python version in its folder, and a torch that has only its name. A real one
# that is mounted at /torch takes its place.
ARG BASE=debian:12-slim
FROM ${BASE}
RUN apt-get update && apt-get install -y --no-install-recommends python3-venv && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv /opt/conda && mkdir /torch && printf '__version__ = "0"\nclass Tensor: pass\n' >/torch/torch.py \
    && echo /torch >"$(/opt/conda/bin/python3 -c 'import site; print(site.getsitepackages()[0])')/torch.pth"
ENV PATH=/opt/conda/bin:$PATH PIP_CERT=/opt/certificates.crt
COPY certificates.crt /opt/
