"""Strategies: each proposes edits for a transcript.

This file says what one is; every other file here is one; a leading _ marks a helper.
"""
