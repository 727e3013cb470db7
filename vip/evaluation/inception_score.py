"""Inception Score's statistic, on the class logits of any network."""

from collections.abc import Iterable

import numpy as np
from scipy.special import log_softmax, xlogy

from schemas.errors import VipError


def inception_score(blocks: Iterable[np.ndarray]) -> float:
    """``exp(mean KL(p(class | image) || p(class)))`` (Salimans et al., 2016) over all images at once (splits = 1).

    Args:
        blocks: logits of shape (n, classes), in any number of pieces; one pass, memory of one piece.

    Returns:
        A value from 1 to the number of classes. It rises with the number of images: compare only equal numbers.
    """
    count, entropy, total = 0, 0.0, np.zeros(0)
    for block in blocks:
        log = log_softmax(np.asarray(block, np.float64), axis=1)
        chance = np.exp(log)
        entropy += float((chance * log).sum())
        total = total + chance.sum(axis=0) if count else chance.sum(axis=0)
        count += len(block)
    if not count:
        raise VipError("there are no logits to score", "give the exam at least two images")
    mean = total / count
    return float(np.exp(entropy / count - xlogy(mean, mean).sum()))


def inception_score_of_parts(blocks: Iterable[np.ndarray], count: int, parts: int = 10) -> tuple[float, float]:
    """Mean and standard deviation of the score over equal parts, in the order of the images (splits = ``parts``).

    Papers that state "IS" mostly mean this with ten parts. The order of a dataset is that of hashes, so that
    neighbours have nothing in common.

    Args:
        blocks: logits of shape (n, classes), in any number of pieces.
        count: images in all; what is left after an equal division goes to the last part.
        parts: how many.

    Raises:
        VipError: for fewer images than parts.
    """
    if count < parts:
        raise VipError(f"{count} images cannot be split in {parts}", "give the exam more images")
    edges = [count // parts * number for number in range(parts)] + [count]
    at, number, part, scores = 0, 0, [], []
    for block in blocks:
        while len(block):
            taken = block[: edges[number + 1] - at]
            part.append(taken)
            at, block = at + len(taken), block[len(taken) :]
            if at == edges[number + 1]:
                scores.append(inception_score(part))
                part, number = [], min(number + 1, parts - 1)
    return float(np.mean(scores)), float(np.std(scores))
