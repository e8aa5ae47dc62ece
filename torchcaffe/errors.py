"""The one exception of this package."""


class CaffeError(Exception):
    """What real Caffe would abort on (a failed CHECK), or what torchcaffe does not support, in one line."""
