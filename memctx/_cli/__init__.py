"""Helpers of the command line: what commands read, and how they print."""
