"""One file per experiment: its docstring is the experiment card, `RECIPE` its values."""
