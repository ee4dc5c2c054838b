"""`python -m skep`."""

import sys

from skep.cli import main

sys.exit(main())
