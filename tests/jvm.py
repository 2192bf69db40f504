"""Java in tests: servers that live for seconds."""

from __future__ import annotations

BRIEF = {"JAVA_TOOL_OPTIONS": "-XX:TieredStopAtLevel=1"}
"""Environment. What the second compiler does for a server that runs for days is in vain here: the
tests of Neo4j took 92 s of CPU with it, and 50 s without."""
