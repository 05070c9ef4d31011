"""The demo: two invented companies, one base model, a bot for each, trained and hot-loaded while you watch.

`story.py` tells it from beginning to end; everything in it goes over gRPC through `adaptory.client`, as a customer's backend would.
"""
