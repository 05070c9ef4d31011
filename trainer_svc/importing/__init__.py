"""Adapters that were trained elsewhere: how their files are read, brought into the one form that servers load, and registered."""
