"""What exists: tenants and keys, datasets, bots, versions and routes, their files, and the feed that tells servers of them."""
