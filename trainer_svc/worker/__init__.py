"""The child process that trains one adapter: the only code that imports torch, transformers, peft and bitsandbytes."""
