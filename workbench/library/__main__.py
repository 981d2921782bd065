"""`python -m workbench.library`."""

import sys

from workbench.library.command import main

if __name__ == "__main__":
    sys.exit(main())
