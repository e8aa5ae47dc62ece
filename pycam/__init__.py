"""Class activation maps, stage-2 crops, predictions, scores and the report, written against pycaffe's interface."""

__version__ = "0.1.0"
