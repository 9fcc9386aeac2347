"""``python -m aiospice.cli``."""

import sys

from aiospice.cli.main import main

sys.exit(main())
