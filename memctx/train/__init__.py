"""Training: what learns from recorded or played runs. Nothing in the library imports from here.

This file says what is here; a leading _ marks a helper.
"""
