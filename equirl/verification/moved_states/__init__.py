"""The check where environments can be put into moved states: exactly, or by fresh draws."""
