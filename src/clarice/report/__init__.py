"""The page a person reads, made from the run folder alone."""
