"""From what a user declares (functions, arrays, names) to a `GroupAction`."""

from equirl.declaring.action_maps import check_box, checked_action_space, declared_action, unmoved
from equirl.declaring.by_name import Mirror, mirror_by_names
from equirl.declaring.declarations import checked_generators
from equirl.declaring.described import describe_action, describe_changes
from equirl.declaring.generated_actions import close_actions, compile_action
from equirl.declaring.observation_maps import ObservationMap

__all__ = [
    "Mirror",
    "ObservationMap",
    "check_box",
    "checked_action_space",
    "checked_generators",
    "close_actions",
    "compile_action",
    "declared_action",
    "describe_action",
    "describe_changes",
    "mirror_by_names",
    "unmoved",
]
