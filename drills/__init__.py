"""Drills: break one thing on purpose under load, and account honestly for what it cost."""
