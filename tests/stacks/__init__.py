"""Tests of what a stack is."""
