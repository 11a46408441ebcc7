"""Python's filelock, as a package or as the source folder of a release."""

import sys
import types


def load():
    try:
        import filelock
    except ModuleNotFoundError as error:
        if error.name != "filelock.version":
            raise
        # A source checkout: that module is made when the package is built.
        version = types.ModuleType("filelock.version")
        version.version = version.__version__ = "from source"
        sys.modules["filelock.version"] = version
        import filelock
    return filelock
