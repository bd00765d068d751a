"""Run one of the Makefile's targets: python3 tools/run.py TARGET.

This file alone must be readable by an old Python, so that it can say that the Python is too old.
"""

import os
import sys

if sys.version_info < (3, 11):
    sys.exit(
        "The book needs Python 3.11 or newer, and %s is Python %d.%d.\n"
        "Name a newer one, for example: make book PYTHON=python3.12"
        % (sys.executable, sys.version_info[0], sys.version_info[1])
    )

if __name__ == "__main__":
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    from tools.targets import main

    sys.exit(main(sys.argv[1:]))
