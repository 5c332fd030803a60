"""Adapters: each puts memctx under one host, and is the only kind of file that imports the host's package.

This file says what one is; every other file here is one; a leading _ marks a helper. An adapter takes the host's
messages, asks `Session.view`, calls the model with the result, and tells `Session.observe` what came back. It never
changes the host's messages, and it hands the model's answer back untouched.
"""
