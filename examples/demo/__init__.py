"""The demo: three invented companies, one base model, four bots of all three kinds, trained and hot-loaded while you watch.

`story.py` tells it from beginning to end; everything in it goes over gRPC through `adaptory.client`, as a customer's backend would.
"""
