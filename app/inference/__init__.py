"""Arrays in, arrays out: nothing here knows HTTP."""
