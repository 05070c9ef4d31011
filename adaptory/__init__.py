"""What both services and their callers share: the contract, its names, its errors, and the client."""
