"""How each kind of object is drawn: a few filled shapes in a box of -1 to 1 around its middle."""

from collections.abc import Callable, Sequence

from PIL import ImageDraw

Colour = tuple[int, int, int]
Light = tuple[float, float, float]
OUTLINE: Colour = (38, 30, 44)
WOOD: Colour = (120, 78, 44)
DARK: Colour = (52, 44, 60)


class Pen:
    """Draws shapes of one object onto the canvas and, where wanted, onto the map of owners.

    Args:
        canvas: drawing on an RGB image, ``scale`` times the size of the scene.
        owners: drawing on an L image of the same size, or None.
        scale: canvas pixels per scene pixel.
        light: factors of red, green and blue, the colour of the light.
        lit_left: whether light falls from the left; decides which flank is shaded.
    """

    def __init__(
        self, canvas: ImageDraw.ImageDraw, owners: ImageDraw.ImageDraw | None, scale: int, light: Light, lit_left: bool
    ) -> None:
        self._canvas, self._owners, self._scale, self._light = canvas, owners, scale, light
        self._seen: dict[Colour, Colour] = {}
        self.lit = -1.0 if lit_left else 1.0

    def place(self, x: float, y: float, size: float, owner: int) -> None:
        """Later shapes are drawn around (x, y), ``size`` scene pixels per unit, and belong to ``owner``."""
        self._x, self._y, self._size, self._owner = x * self._scale, y * self._scale, size * self._scale, owner

    def polygon(self, points: Sequence[tuple[float, float]], fill: Colour, outline: Colour | None = OUTLINE) -> None:
        """A filled polygon."""
        xy = [(self._x + px * self._size, self._y + py * self._size) for px, py in points]
        self._canvas.polygon(xy, fill=self._lit(fill), outline=self._lit(outline))
        if self._owners is not None:
            self._owners.polygon(xy, fill=self._owner)

    def box(self, x0: float, y0: float, x1: float, y1: float, fill: Colour, outline: Colour | None = OUTLINE) -> None:
        """A filled rectangle."""
        xy = self._corners(x0, y0, x1, y1)
        self._canvas.rectangle(xy, fill=self._lit(fill), outline=self._lit(outline))
        if self._owners is not None:
            self._owners.rectangle(xy, fill=self._owner)

    def oval(self, x0: float, y0: float, x1: float, y1: float, fill: Colour, outline: Colour | None = OUTLINE) -> None:
        """A filled ellipse."""
        xy = self._corners(x0, y0, x1, y1)
        self._canvas.ellipse(xy, fill=self._lit(fill), outline=self._lit(outline))
        if self._owners is not None:
            self._owners.ellipse(xy, fill=self._owner)

    def line(self, points: Sequence[tuple[float, float]], fill: Colour, width: float) -> None:
        """A line, ``width`` in units of the box."""
        xy = [(self._x + px * self._size, self._y + py * self._size) for px, py in points]
        pixels = max(2, round(width * self._size))
        self._canvas.line(xy, fill=self._lit(fill), width=pixels)
        if self._owners is not None:
            self._owners.line(xy, fill=self._owner, width=pixels)

    def _lit(self, colour: Colour | None) -> Colour | None:
        if colour is None:
            return None
        found = self._seen.get(colour)
        if found is None:
            found = self._seen[colour] = lit(colour, self._light)
        return found

    def _corners(self, x0: float, y0: float, x1: float, y1: float) -> tuple[float, float, float, float]:
        s = self._size
        return self._x + x0 * s, self._y + y0 * s, self._x + x1 * s, self._y + y1 * s


def lit(colour: Colour, light: Light) -> Colour:
    """``colour`` as it looks under ``light``."""
    return (
        min(255, int(colour[0] * light[0])),
        min(255, int(colour[1] * light[1])),
        min(255, int(colour[2] * light[2])),
    )


def shade(colour: Colour, by: float) -> Colour:
    """``colour`` made darker (``by`` < 1)."""
    return int(colour[0] * by), int(colour[1] * by), int(colour[2] * by)


def _house(pen: Pen, colour: Colour, turn: float) -> None:
    pen.box(-0.8, -0.15, 0.8, 0.95, colour)
    pen.box(*((0.35, -0.1, 0.75, 0.9) if pen.lit < 0 else (-0.75, -0.1, -0.35, 0.9)), shade(colour, 0.8), None)
    pen.polygon([(-1.0, -0.15), (0.0, -0.95), (1.0, -0.15)], shade(colour, 0.55))
    door = -0.45 + 0.5 * turn
    pen.box(door, 0.3, door + 0.38, 0.95, DARK, None)


def _tree(pen: Pen, colour: Colour, turn: float) -> None:
    pen.box(-0.16, 0.2, 0.16, 0.98, WOOD)
    pen.oval(-0.8, -0.35, 0.1 + 0.1 * turn, 0.5, colour)
    pen.oval(-0.1 - 0.1 * turn, -0.35, 0.8, 0.5, shade(colour, 0.85))
    pen.oval(-0.58, -0.98, 0.58, 0.22, colour)


def _boat(pen: Pen, colour: Colour, turn: float) -> None:
    pen.polygon([(-1.0, 0.35), (1.0, 0.35), (0.6, 0.92), (-0.6, 0.92)], colour)
    pen.line([(0.0, 0.35), (0.0, -0.95)], WOOD, 0.12)
    way = 0.85 if turn < 0.5 else -0.85
    pen.polygon([(0.0, -0.95), (way, 0.15), (0.0, 0.15)], shade(colour, 0.82))


def _car(pen: Pen, colour: Colour, turn: float) -> None:
    way = 1.0 if turn < 0.5 else -1.0
    pen.polygon([(-0.55 * way, 0.1), (-0.4 * way, -0.4), (0.3 * way, -0.4), (0.6 * way, 0.1)], (190, 222, 240))
    pen.box(-1.0, 0.05, 1.0, 0.6, colour)
    pen.oval(-0.78, 0.32, -0.18, 0.92, DARK)
    pen.oval(0.18, 0.32, 0.78, 0.92, DARK)


def _tower(pen: Pen, colour: Colour, turn: float) -> None:
    pen.box(-0.42, -0.6, 0.42, 0.98, colour)
    pen.box(*((0.1, -0.5, 0.38, 0.93) if pen.lit < 0 else (-0.38, -0.5, -0.1, 0.93)), shade(colour, 0.8), None)
    pen.box(-0.62, -0.78, 0.62, -0.42, colour)
    for x in (-0.62, -0.16, 0.3):
        pen.box(x, -1.0, x + 0.32, -0.7, colour)
    pen.box(-0.14, 0.0 - 0.2 * turn, 0.14, 0.36 - 0.2 * turn, DARK, None)


def _tent(pen: Pen, colour: Colour, turn: float) -> None:
    pen.polygon([(-1.0, 0.9), (0.0, -0.7), (1.0, 0.9)], colour)
    x = -0.15 + 0.3 * turn
    pen.polygon([(x - 0.32, 0.9), (0.0, -0.2), (x + 0.32, 0.9)], DARK, None)


def _balloon(pen: Pen, colour: Colour, turn: float) -> None:
    pen.line([(-0.4, 0.2), (-0.15, 0.7)], DARK, 0.08)
    pen.line([(0.4, 0.2), (0.15, 0.7)], DARK, 0.08)
    pen.oval(-0.72, -1.0, 0.72, 0.42, colour)
    pen.oval(-0.26, -1.0, 0.26, 0.42, shade(colour, 0.78), None)
    pen.box(-0.22, 0.62, 0.22, 0.98, WOOD)


def _cat(pen: Pen, colour: Colour, turn: float) -> None:
    way = 1.0 if turn < 0.5 else -1.0
    pen.line([(0.5 * way, 0.8), (0.9 * way, 0.45), (0.75 * way, 0.0)], colour, 0.22)
    pen.oval(-0.58, -0.1, 0.58, 0.98, colour)
    pen.polygon([(-0.6, -0.3), (-0.55, -1.0), (-0.08, -0.6)], colour)
    pen.polygon([(0.6, -0.3), (0.55, -1.0), (0.08, -0.6)], colour)
    pen.oval(-0.62, -0.78, 0.62, 0.2, colour)
    pen.oval(-0.38, -0.42, -0.12, -0.12, DARK, None)
    pen.oval(0.12, -0.42, 0.38, -0.12, DARK, None)


def _pine(pen: Pen, colour: Colour, turn: float) -> None:
    green = (26, 92, 58)
    pen.box(-0.14, 0.55, 0.14, 1.0, WOOD)
    pen.polygon([(-0.8, 0.65), (0.0, -0.25), (0.8, 0.65)], green)
    pen.polygon([(-0.55, 0.0), (0.0, -1.0), (0.55, 0.0)], green)


def _lamp(pen: Pen, colour: Colour, turn: float) -> None:
    pen.box(-0.12, -0.5, 0.12, 1.0, DARK, None)
    pen.oval(-0.46, -1.0, 0.46, -0.1, (255, 244, 150))


def _flag(pen: Pen, colour: Colour, turn: float) -> None:
    way = 1.0 if turn < 0.5 else -1.0
    pen.polygon([(-0.6 * way, -0.98), (0.9 * way, -0.8), (0.9 * way, 0.15), (-0.6 * way, 0.0)], colour)
    pen.line([(-0.6 * way, -1.0), (-0.6 * way, 1.0)], DARK, 0.2)


def _cactus(pen: Pen, colour: Colour, turn: float) -> None:
    green = (86, 150, 70)
    up = 0.2 * turn
    pen.line([(-0.75, -0.3 - up), (-0.75, 0.35), (0.0, 0.35)], green, 0.34)
    pen.line([(0.75, -0.5 + up), (0.75, 0.1), (0.0, 0.1)], green, 0.34)
    pen.box(-0.26, -1.0, 0.26, 1.0, green)


def _flowers(pen: Pen, colour: Colour, turn: float) -> None:
    low = 0.25 * turn
    for x, y in ((-0.62, -0.2 + low), (0.62, -0.1 - low), (0.0, -0.62)):
        pen.line([(x, y), (x * 0.7, 0.98)], (34, 104, 48), 0.14)
        pen.oval(x - 0.42, y - 0.42, x + 0.42, y + 0.42, colour)
        pen.oval(x - 0.15, y - 0.15, x + 0.15, y + 0.15, (96, 60, 20), None)


def _mushrooms(pen: Pen, colour: Colour, turn: float) -> None:
    for x, y, r in ((-0.45, -0.3, 0.55), (0.5, 0.15 - 0.3 * turn, 0.48)):
        pen.box(x - 0.2, y, x + 0.2, 0.98, (236, 222, 196))
        pen.polygon(
            [(x - r, y + 0.12), (x - 0.75 * r, y - 0.4), (x, y - 0.62), (x + 0.75 * r, y - 0.4), (x + r, y + 0.12)],
            colour,
        )


def _clouds(pen: Pen, colour: Colour, turn: float) -> None:
    white, grey = (250, 250, 252), (222, 226, 236)
    pen.oval(-2.0, -0.35, -0.5, 0.75, grey, None)
    pen.oval(0.5, -0.3 - 0.2 * turn, 2.0, 0.75, grey, None)
    pen.oval(-1.2, -0.9 + 0.2 * turn, 0.5, 0.8, white, None)
    pen.oval(-0.3, -0.7, 1.2, 0.8, white, None)


def _birds(pen: Pen, colour: Colour, turn: float) -> None:
    for x, y in ((-1.2, 0.3 - 0.5 * turn), (0.0, -0.45), (1.2, 0.1 + 0.3 * turn)):
        # A pale wing on a dark one is seen on every sky.
        pen.line([(x - 0.62, y - 0.3), (x, y + 0.25), (x + 0.62, y - 0.3)], (30, 26, 34), 0.42)
        pen.line([(x - 0.62, y - 0.34), (x, y + 0.18), (x + 0.62, y - 0.34)], (250, 244, 226), 0.14)


def _kite(pen: Pen, colour: Colour, turn: float) -> None:
    lean = 0.4 * (turn - 0.5)
    pen.line([(0.0, 0.5), (0.45, 0.8), (0.9, 0.7), (1.4, 1.0)], DARK, 0.16)
    pen.polygon([(lean, -1.05), (0.75, -0.3), (-lean, 0.75), (-0.75, -0.3)], colour)
    pen.line([(-0.7, -0.3), (0.7, -0.3)], DARK, 0.1)


def _stones(pen: Pen, colour: Colour, turn: float) -> None:
    pen.oval(-1.5, -0.1, -0.2, 0.9, (150, 150, 156))
    pen.oval(0.35, 0.0 - 0.2 * turn, 1.5, 0.9, (130, 130, 138))
    pen.oval(-0.6, -0.65 + 0.2 * turn, 0.75, 0.95, (172, 172, 178))


def _fence(pen: Pen, colour: Colour, turn: float) -> None:
    light = (196, 142, 88)
    pen.box(-1.9, -0.25, 1.9, 0.05, light)
    pen.box(-1.9, 0.4, 1.9, 0.7, light)
    for x in (-1.5, -0.5, 0.5, 1.5):
        pen.box(x - 0.2, -0.75, x + 0.2, 1.0, light)


def _bush(pen: Pen, colour: Colour, turn: float) -> None:
    pen.oval(-1.5, -0.25, 0.0, 0.95, (38, 112, 48))
    pen.oval(0.0, -0.25, 1.5, 0.95, (38, 112, 48))
    pen.oval(-0.85, -0.8, 0.85, 0.95, (52, 132, 56))


SHAPES: dict[str, Callable[[Pen, Colour, float], None]] = {
    "house": _house,
    "tree": _tree,
    "boat": _boat,
    "car": _car,
    "tower": _tower,
    "tent": _tent,
    "balloon": _balloon,
    "cat": _cat,
    "pine": _pine,
    "lamp": _lamp,
    "flag": _flag,
    "cactus": _cactus,
    "flowers": _flowers,
    "mushrooms": _mushrooms,
    "clouds": _clouds,
    "birds": _birds,
    "kite": _kite,
    "stones": _stones,
    "fence": _fence,
    "bush": _bush,
}
