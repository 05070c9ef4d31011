"""One program per measurement. `adaptory bench NAME` runs `bench/NAME.py` in a child process; each compares with the plain alternative."""
