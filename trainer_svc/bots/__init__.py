"""The kinds of bots: what their data looks like, the rows it becomes, and how they are trained by default."""
