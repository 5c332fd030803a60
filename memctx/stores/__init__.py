"""Stores: where what left a view is kept, so that a handle can bring it back.

This file says what one is; every other file here is one; a leading _ marks a helper.
"""
