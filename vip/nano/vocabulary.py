"""The words of the drawn world: every attribute a scene can have, and which things can stand where."""

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (212, 38, 38),
    "orange": (246, 140, 24),
    "yellow": (250, 226, 48),
    "green": (44, 158, 62),
    "blue": (44, 92, 222),
    "purple": (126, 46, 168),
    "pink": (250, 150, 196),
    "white": (246, 246, 246),
}
"""Name -> RGB before the light of the hour."""

SUBJECTS = ("house", "tree", "boat", "car", "tower", "tent", "balloon", "cat")
"""What can stand in the middle; always coloured."""

TERRAINS = ("meadow", "desert", "ice", "sea", "rock", "field")
TIMES = ("dawn", "morning", "noon", "dusk", "night")
WEATHERS = ("clear", "rain", "snow", "fog")

SIDES = ("left", "right", "above", "below")
BESIDE = ("pine", "lamp", "flag", "cactus", "flowers", "mushrooms", "house", "tent")
THINGS: dict[str, tuple[str, ...]] = {
    "left": BESIDE,
    "right": BESIDE,
    "above": ("clouds", "birds", "kite", "balloon"),
    "below": ("flowers", "mushrooms", "stones", "fence", "bush"),
}
"""Side -> the kinds that can stand there. ``house``, ``tent`` and ``balloon`` are subjects too, so that kinds (and
every colour) occur in the centre and in the surrounding: a word can end up in the wrong one."""

COLOURED = frozenset({"flag", "flowers", "mushrooms", "house", "tent", "kite", "balloon"})
"""The kinds beside the middle that have a colour of their own."""

KINDS = tuple(dict.fromkeys(SUBJECTS + tuple(kind for side in SIDES for kind in THINGS[side])))
"""Every kind once, subjects first."""

SCENERY = TERRAINS + TIMES + WEATHERS
WORDS = ("Center", "Surrounding", *COLOURS, *KINDS, *SCENERY, *SIDES)
"""Every word a caption can hold."""
