"""What tenants use, the limits they are held to, and the way of what was counted to the ledger."""
