"""Builds the distributions that pyproject.toml describes, each of its sources alone."""

from tempfile import TemporaryDirectory

from setuptools import setup

if __name__ == "__main__":
    # Not in build/lib, where setuptools leaves the modules of the versions that were built here before, and installs them
    # with this one.
    with TemporaryDirectory() as built:
        setup(options={"build": {"build_lib": built}})
