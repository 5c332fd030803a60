"""Policies: what a strategy asks when it must choose.

This file says what one is; every other file here is one; a leading _ marks a helper.
"""
