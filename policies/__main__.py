"""Two ways in: the engine runs this folder as a policy pack, a person runs `python -m policies`."""

import sys
from pathlib import Path

if __package__:
    from policies.cli import main

    sys.exit(main())

# The engine runs the folder by its path, so it is not a package yet.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from policies.analyzer import serve  # noqa: E402
from policies.rules import RULES  # noqa: E402

serve(RULES.values())
