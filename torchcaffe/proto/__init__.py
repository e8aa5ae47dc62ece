"""Caffe's protobuf messages, without protoc and without Caffe; needs no torch."""
from . import caffe_pb2

__all__ = ["caffe_pb2"]
