"""From dermoscopy pictures to the LMDBs that Caffe trains on; see ``python -m data_tools --help``."""

__version__ = "0.1.0"  # of the whole project
