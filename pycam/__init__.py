"""Class activation maps, stage-2 crops, predictions, scores and the report, written against pycaffe's interface."""

from data_tools import __version__ as __version__
