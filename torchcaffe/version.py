"""The version of the project, which all its packages have."""

PROJECT = "0.1.0"
