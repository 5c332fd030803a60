"""What `memctx bench` runs: loaders of public data sets, the methods compared, and the measure."""
