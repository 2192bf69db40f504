"""Two ways in: the engine runs this folder as a policy pack, a person runs `python -m policies`.

Neither looks for garbage: all that is read is kept until the end of the process, and to search it
for what is not wanted any more takes as long as the rest of a run over a thousand objects.
"""

import gc
import signal
import sys
from pathlib import Path

if __package__:
    from policies.cli import main

    gc.disable()
    # A reader such as `head` that has seen enough ends the command without a word.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    sys.exit(main())

# The engine runs the folder by its path, so it is not a package yet.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from policies.analyzer import serve
from policies.rules import RULES

gc.disable()
serve(RULES.values())
