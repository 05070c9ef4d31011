"""Who may start when: a fair, bounded queue in front of the engine."""
