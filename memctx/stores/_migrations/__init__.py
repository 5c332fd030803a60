"""Changes of the schema, by Alembic. A change is one file `versions/rNNNN.py`, numbered on from the last, and the same change
in `memctx/stores/_tables.py`; a test compares the two. Released files never change."""
