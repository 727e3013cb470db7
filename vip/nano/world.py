"""Draw scenes: sky, ground, things, subject and weather, at twice the size, then averaged down."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from vip.nano.scene import SIZE, Scene, make_scene
from vip.nano.shapes import SHAPES, Light, Pen, lit
from vip.nano.vocabulary import COLOURS, SIDES

_SCALE = 2
_CANVAS = SIZE * _SCALE

SKY, GROUND, SUBJECT = 0, 1, 2
OWNERS = {side: 3 + i for i, side in enumerate(SIDES)}
"""Values of the map of owners: whose each pixel is."""

_SKIES: dict[str, np.ndarray] = {
    time: np.array(colours, np.float32)
    for time, colours in {
        "dawn": ((164, 142, 210), (255, 196, 196)),
        "morning": ((150, 218, 226), (255, 246, 200)),
        "noon": ((40, 124, 236), (150, 206, 252)),
        "dusk": ((112, 56, 120), (252, 132, 48)),
        "night": ((10, 14, 46), (38, 48, 96)),
    }.items()
}
"""Time of day -> colours of the sky at the top and at the horizon, float32 [2, 3]."""
_LIGHTS: dict[str, tuple[float, float, float]] = {
    "dawn": (0.96, 0.84, 0.92),
    "morning": (1.0, 1.0, 0.94),
    "noon": (1.0, 1.0, 1.0),
    "dusk": (0.98, 0.76, 0.66),
    "night": (0.62, 0.66, 0.88),
}
_GROUNDS: dict[str, tuple[tuple[int, int, int], tuple[int, int, int]]] = {
    "meadow": ((142, 196, 96), (98, 168, 66)),
    "desert": ((238, 212, 150), (222, 184, 108)),
    "ice": ((226, 240, 250), (190, 222, 242)),
    "sea": ((64, 136, 190), (28, 92, 160)),
    "rock": ((158, 150, 148), (118, 110, 112)),
    "field": ((172, 124, 76), (134, 90, 52)),
}
_MARKS: dict[str, tuple[int, int, int]] = {
    "meadow": (78, 146, 52),
    "desert": (202, 160, 88),
    "ice": (150, 192, 226),
    "sea": (150, 200, 232),
    "rock": (98, 92, 96),
    "field": (110, 72, 40),
}
_RAIN = np.full((SIZE, SIZE, 3), (196, 214, 240), np.float32)
_RAMP = ((np.arange(_CANVAS) + 0.5) / _CANVAS).astype(np.float32)[:, None]


def _texture(draw: ImageDraw.ImageDraw, scene: Scene, light: Light) -> None:
    """The few broad marks that tell one ground from another."""
    top, u = scene.horizon * _SCALE, scene.texture
    mark = lit(_MARKS[scene.terrain], light)
    depth = _CANVAS - top
    match scene.terrain:
        case "meadow":
            for i in range(10):
                x, y = u[i] * _CANVAS, top + 6 + u[i + 10] * (depth - 10)
                draw.polygon([(x - 5, y + 4), (x - 3, y - 3), (x, y + 2), (x + 3, y - 3), (x + 5, y + 4)], mark)
        case "desert":
            for i in range(4):
                y, x = top + 8 + (i + 0.5 * u[i]) * depth / 4, u[i + 4] * _CANVAS
                draw.line([(x - 44, y + 5), (x - 14, y - 2), (x + 14, y + 1), (x + 44, y + 6)], mark, 3)
        case "ice":
            for i in range(4):
                x, y = u[i] * _CANVAS, top + 6 + u[i + 4] * (depth - 12)
                draw.line([(x - 16, y + 4), (x, y - 4), (x + 8, y + 4), (x + 22, y - 2)], mark, 3)
        case "sea":
            for i in range(7):
                x, y = u[i] * _CANVAS, top + 5 + (i + 0.6 * u[i + 8]) * depth / 7
                draw.arc((x - 12, y - 5, x, y + 5), 0, 180, mark, 3)
                draw.arc((x, y - 5, x + 12, y + 5), 0, 180, mark, 3)
        case "rock":
            for i in range(6):
                x, y = u[i] * _CANVAS, top + 8 + u[i + 6] * (depth - 12)
                w = 8 + 8 * u[i + 12]
                draw.polygon([(x - w, y + 5), (x - w * 0.4, y - 5), (x + w * 0.5, y - 4), (x + w, y + 5)], mark)
        case _:
            vanish = _CANVAS * (0.3 + 0.4 * u[0])
            for i in range(-5, 6):
                far, near = vanish + i * 9, vanish + i * 40 + 12 * u[1]
                draw.line([(far, top), (near, _CANVAS)], mark, 4)


def _weather(pixels: np.ndarray, scene: Scene) -> np.ndarray:
    """Weather over the finished picture, float32 [64, 64, 3], changed in place and returned."""
    u = scene.texture
    match scene.weather:
        case "fog":
            # Thickest at the horizon, so that a foggy scene is more than a pale one.
            rows = np.abs(np.arange(SIZE, dtype=np.float32) - scene.horizon) / SIZE
            veil = (0.46 - 0.30 * rows)[:, None, None]
            pale = np.float32(110 if scene.time == "night" else 214)
            return _towards(pixels, pale, veil)
        case "rain":
            layer = Image.new("L", (_CANVAS, _CANVAS), 0)
            draw = ImageDraw.Draw(layer)
            for i in range(22):
                x, y = u[20 + i] * 1.1 * _CANVAS, (u[42 + i] + i) % 22 / 22 * _CANVAS
                draw.line([(x, y - 8), (x - 5, y + 8)], 255, 2)
            share = _spread(layer) * np.float32(0.62 / 255)
            pixels *= np.float32(0.84)
            return _towards(pixels, _RAIN, share)
        case "snow":
            layer = Image.new("L", (_CANVAS, _CANVAS), 0)
            draw = ImageDraw.Draw(layer)
            for i in range(22):
                x, y = u[20 + i] * _CANVAS, (u[42 + i] + i) % 22 / 22 * _CANVAS
                draw.ellipse((x - 2, y - 2, x + 2, y + 2), 255)
            share = _spread(layer) * np.float32(1 / 255)
            pixels *= np.float32(0.94)
            pixels += np.float32(10)
            return _towards(pixels, np.float32(255), share)
        case _:
            return pixels


def _spread(layer: Image.Image) -> np.ndarray:
    """A layer at twice the size as float32 [64, 64, 3], three equal channels: NumPy broadcasts slowly to three."""
    small = layer.reduce(_SCALE)
    return np.array(Image.merge("RGB", (small, small, small)), np.float32)


def _towards(pixels: np.ndarray, colour: np.ndarray | np.float32, share: np.ndarray) -> np.ndarray:
    """Blend ``share`` (0 to 1) of ``colour`` into ``pixels``, in place."""
    step = colour - pixels
    step *= share
    pixels += step
    return pixels


def _paint(scene: Scene, owners: ImageDraw.ImageDraw | None) -> Image.Image:
    # The light of the hour falls on the ground and on things; the sky has a colour of its own.
    red, green, blue = _LIGHTS[scene.time]
    light = (red * scene.gain, green * scene.gain, blue * scene.gain)
    sky_top, sky_low = _SKIES[scene.time] * np.float32(scene.gain)
    far, near = (np.array(lit(c, light), np.float32) for c in _GROUNDS[scene.terrain])
    top = round(scene.horizon * _SCALE)
    rows = np.empty((_CANVAS, 3), np.float32)
    rows[:top] = sky_top + (sky_low - sky_top) * (_RAMP[:top] * np.float32(_CANVAS / top))
    rows[top:] = far + (near - far) * ((_RAMP[top:] - _RAMP[top]) * np.float32(_CANVAS / (_CANVAS - top)))
    column = Image.fromarray(np.minimum(rows, 255).astype(np.uint8)[:, None])
    canvas = column.resize((_CANVAS, _CANVAS), Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(canvas)
    if owners is not None:
        owners.rectangle((0, top, _CANVAS, _CANVAS), fill=GROUND)
    _texture(draw, scene, light)
    pen = Pen(draw, owners, _SCALE, light, scene.lit_left)
    for thing in scene.things:
        pen.place(thing.x, thing.y, thing.size, OWNERS[thing.side])
        SHAPES[thing.kind](pen, COLOURS.get(thing.colour, (0, 0, 0)), thing.turn)
    subject = scene.subject
    pen.place(subject.x, subject.y, subject.size, SUBJECT)
    SHAPES[subject.kind](pen, COLOURS[subject.colour], subject.turn)
    return canvas


def owner_map(scene: Scene) -> np.ndarray:
    """Whose each pixel is, at twice the size of the scene.

    Returns:
        uint8 [128, 128]; values SKY, GROUND, SUBJECT and those of OWNERS. Weather owns nothing.
    """
    image = Image.new("L", (_CANVAS, _CANVAS), SKY)
    _paint(scene, ImageDraw.Draw(image))
    return np.asarray(image)


def draw(scene: Scene) -> np.ndarray:
    """The picture of ``scene``, uint8 [64, 64, 3], RGB."""
    small = _paint(scene, None).reduce(_SCALE)
    if scene.weather == "clear":
        return np.asarray(small)
    pixels = _weather(np.array(small, np.float32), scene)
    pixels += np.float32(0.5)
    return np.minimum(pixels, 255, out=pixels).astype(np.uint8)


def draw_seeds(seeds: Sequence[int] | range) -> np.ndarray:
    """Pictures of many seeds, uint8 [N, 64, 64, 3]."""
    return np.stack([draw(make_scene(seed)) for seed in seeds])
