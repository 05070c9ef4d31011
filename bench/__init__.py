"""One program per measurement, run by `adaptory bench NAME` in a child process; each compares with the plain alternative."""
