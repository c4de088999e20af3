"""`python -m virtrpc.cli`: the same as `virtrpc`."""

from __future__ import annotations

import sys

from virtrpc.cli.start import main

sys.exit(main())
