"""HTTP in, HTTP out: nothing here knows an inference library."""
