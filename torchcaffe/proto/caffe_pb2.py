"""Caffe's messages under the names that protoc gives them: ``caffe_pb2.NetParameter``, ``caffe_pb2.TRAIN``, ..."""
from typing import Any

from .build import build
from .schema import SCHEMA

globals().update(build(SCHEMA))


def __getattr__(name: str) -> Any:
    raise AttributeError(f"caffe_pb2 has no {name!r}; the messages that torchcaffe knows are in proto/schema.py")
