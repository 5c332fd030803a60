"""Graphs: relations between things an agent knows or may use.

This file says what one is; every other file here is one; a leading _ marks a helper.
"""
