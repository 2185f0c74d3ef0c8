"""How a finite group moves the points of a space: `GroupAction` and the maps it is made of."""

from equirl.actions.group_actions import Elements, GroupAction

__all__ = ["Elements", "GroupAction"]
