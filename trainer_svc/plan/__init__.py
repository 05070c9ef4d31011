"""Plans without a service: a question in, ranked plans out. For the command line and for capacity planning."""
