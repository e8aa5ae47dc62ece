"""Caffe's protobuf messages, without protoc and without Caffe; needs no torch."""
