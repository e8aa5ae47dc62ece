"""From dermoscopy pictures to the LMDBs that Caffe trains on; see ``python -m data_tools --help``."""
from torchcaffe.version import PROJECT

__version__ = PROJECT
