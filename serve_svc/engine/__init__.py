"""The engine layer: what an engine promises, the rules that keep it alive, vLLM behind them, and the supervisor above."""
