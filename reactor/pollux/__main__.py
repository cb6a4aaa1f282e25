"""`python -m pollux`: the same as the command `pollux`."""

import sys

from pollux.cli import main

if __name__ == "__main__":
    sys.exit(main())
