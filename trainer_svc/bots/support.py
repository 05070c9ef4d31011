"""How a support bot is trained: its recipe. Which conversations are held out for judging is `grouped_split`'s.

A conversation is one row: the bot's system turn, then all its turns, of which every turn of the agent is learned. So one row teaches
an answer at each point of the conversation, at the price of reading it once. Whole conversations are held out, and those that are
nearly the same stay on one side, or the held-out loss would ask for what was trained.
"""

from trainer_svc.bots.recipe import RecipeRule
from trainer_svc.jobs.workspace import TrainingSettings

# Tone and procedure, not facts by heart: a gentler rate than an FAQ bot's, and fewer passes over rows that hold many turns each.
# Not knowing by heart, but answers to what it never saw are wanted: two epochs without a gain are enough.
RECIPE = TrainingSettings(
    rank=16,
    alpha=32,
    learning_rate=5e-4,
    epochs=2,
    batch_rows=8,
    max_row_tokens=4096,
    seed=0,
    early_stopping_patience=2,
)
RECIPE_RULE = RecipeRule(RECIPE, held_out_share=0.05, min_steps=120, max_epochs=10)
