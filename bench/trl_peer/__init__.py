"""TRL's SFTTrainer in the place of our worker, for `bench.train`."""
