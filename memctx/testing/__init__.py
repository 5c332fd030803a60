"""Suites that hold every component of a kind to its promises. Subclass one to test a component of your own.

This file says what one is; every other file here is one; a leading _ marks a helper.
"""
