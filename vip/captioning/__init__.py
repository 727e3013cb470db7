"""Captions of the centre and the surrounding: requests, answers, and what is read from them."""
