"""How a finite group moves the points of a space: `GroupAction` and the maps it is made of."""

from equirl.actions.affines import Affines
from equirl.actions.element_finder import BlockMaps, ElementFinder
from equirl.actions.group_actions import Elements, GroupAction
from equirl.actions.layout import Block, Leaf, as_leaves, from_leaves, leaves_of
from equirl.actions.lookups import Lookups
from equirl.actions.maps import LARGE_POINT, Maps, NumpyArray
from equirl.actions.policy_outputs import output_actions
from equirl.actions.signed_permutations import SignedPermutations

__all__ = [
    "LARGE_POINT",
    "Affines",
    "Block",
    "BlockMaps",
    "ElementFinder",
    "Elements",
    "GroupAction",
    "Leaf",
    "Lookups",
    "Maps",
    "NumpyArray",
    "SignedPermutations",
    "as_leaves",
    "from_leaves",
    "leaves_of",
    "output_actions",
]
