"""``python -m aiospice``."""

import sys

from aiospice.cli.main import main

sys.exit(main())
