"""The nano captioner: BLIP-2 (vision tower, Q-Former, OPT), trained from nothing on drawn scenes."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn
from torch.nn import functional
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    PreTrainedTokenizerFast,
)

from vip.nano.answers import ATTRIBUTES, Example, make_example
from vip.nano.autoencoder import to_tensor
from vip.nano.loop import Recipe, Training, seed_step
from vip.nano.scene import SIZE, TRAINING_SEEDS
from vip.nano.vocabulary import COLOURS, KINDS

BATCH = 24
QUERIES = 16
WIDTH = 128
FIRST_SEED = 10 * TRAINING_SEEDS
PAD, END, IMAGE = "<pad>", "</s>", "<image>"
MAX_TOKENS = 256

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}{% if part['type'] == 'text' %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}{% endfor %}{{ '\\n' }}"
)
"""Nothing but the text of the messages; vLLM puts the image's tokens before it. A new line ends the instruction."""


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE in which every word of the world is one token; unknown words fall back to their bytes."""
    tokenizer = Tokenizer(models.BPE(unk_token=None))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1024,
        special_tokens=[PAD, END, IMAGE],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        min_frequency=2,
        show_progress=False,
    )
    corpus = []
    for seed in range(TRAINING_SEEDS, TRAINING_SEEDS + 4000):
        example = make_example(seed)
        corpus += [example.prompt + "\n", example.answer, ", ".join(example.answer.split(", ")[::-1])]
    tokenizer.train_from_iterator(corpus, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, eos_token=END, bos_token=END, model_max_length=MAX_TOKENS
    )


def build(tokenizer: PreTrainedTokenizerFast, seed: int = 0) -> Blip2ForConditionalGeneration:
    """A fresh captioner, weights from ``seed``."""
    seed_step(seed, -2)
    config = Blip2Config(
        vision_config={
            "hidden_size": WIDTH,
            "intermediate_size": 4 * WIDTH,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "image_size": SIZE,
            "patch_size": 8,
            "initializer_range": 0.02,
        },
        qformer_config={
            "vocab_size": 4,
            "hidden_size": WIDTH,
            "intermediate_size": 2 * WIDTH,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "encoder_hidden_size": WIDTH,
            "cross_attention_frequency": 1,
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
            "max_position_embeddings": 32,
        },
        text_config={
            "model_type": "opt",
            "vocab_size": len(tokenizer),
            "hidden_size": WIDTH,
            "word_embed_proj_dim": WIDTH,
            "ffn_dim": 4 * WIDTH,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "max_position_embeddings": MAX_TOKENS,
            "dropout": 0.0,
            "pad_token_id": tokenizer.pad_token_id,
            "bos_token_id": tokenizer.eos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
        },
        num_query_tokens=QUERIES,
        image_text_hidden_size=WIDTH,
        image_token_index=tokenizer.get_vocab()[IMAGE],
    )
    model = Blip2ForConditionalGeneration(config)
    with torch.no_grad():
        # Stock BLIP-2 starts the queries at zero, to be loaded over; from nothing they would stay alike for ever.
        model.query_tokens.normal_(0.0, 0.5)
    return model


class Student(nn.Module):
    """The captioner and, while it learns, linear heads that are thrown away afterwards.

    One head per attribute reads it from one query of the Q-Former; two heads read kind and colour of an object from the
    vision tower's patch in its middle. Without them shapes are learned very late: the answer alone says too little
    about where to look.
    """

    def __init__(self, captioner: Blip2ForConditionalGeneration) -> None:
        super().__init__()
        self.captioner = captioner
        self.heads = nn.ModuleList(nn.Linear(WIDTH, len(words) + 1) for words in ATTRIBUTES.values())
        self.kinds = nn.Linear(WIDTH, len(KINDS))
        self.colours = nn.Linear(WIDTH, len(COLOURS) + 1)

    def forward(self, pixels: torch.Tensor, tokens: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Logits of the text positions, what the queries hold, and what the patches hold.

        Args:
            pixels: float32 [N, 3, 64, 64] in -1..1.
            tokens: int64 [N, T], padded on the right.

        Returns:
            float32 [N, T, vocabulary] (position t predicts token t, position 0 nothing useful), float32 [N, Q, 128],
            float32 [N, 65, 128] (the first is no patch).
        """
        model = self.captioner
        seen = model.vision_model(pixel_values=pixels).last_hidden_state
        queries = model.query_tokens.expand(len(pixels), -1, -1)
        read = model.qformer(query_embeds=queries, encoder_hidden_states=seen).last_hidden_state
        prefix = model.language_projection(read)
        words = model.get_input_embeddings()(tokens)
        embedded = torch.cat([prefix, words], dim=1)
        # Padding stands on the right, so the causal mask alone keeps it out of every answer.
        states = model.language_model.model(inputs_embeds=embedded, use_cache=False).last_hidden_state
        return model.language_model.lm_head(states[:, QUERIES - 1 : -1]), read, seen


def collate(
    examples: Sequence[Example], tokenizer: PreTrainedTokenizerFast
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pixels, tokens, targets (-100 outside the answer) and attribute labels of a batch."""
    prompts = tokenizer([e.prompt + "\n" for e in examples], add_special_tokens=False)["input_ids"]
    answers = tokenizer([e.answer + END for e in examples], add_special_tokens=False)["input_ids"]
    longest = max(len(p) + len(a) for p, a in zip(prompts, answers, strict=True))
    tokens = torch.full((len(examples), longest), tokenizer.pad_token_id)
    targets = torch.full((len(examples), longest), -100)
    for i, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        tokens[i, : len(prompt) + len(answer)] = torch.tensor(prompt + answer)
        targets[i, len(prompt) : len(prompt) + len(answer)] = torch.tensor(answer)
    pixels = torch.stack([to_tensor(e.pixels[None])[0] for e in examples])
    return pixels, tokens, targets, torch.tensor([e.labels for e in examples])


def train(folder: Path, recipe: Recipe, until: int | None = None) -> Training:
    """Train (or go on training) in ``folder``."""
    tokenizer = build_tokenizer()
    student = Student(build(tokenizer, recipe.seed))
    training = Training(student, recipe, folder)

    def loss(step: int) -> tuple[torch.Tensor, dict[str, float]]:
        start = FIRST_SEED + step * BATCH
        examples = [make_example(seed) for seed in range(start, start + BATCH)]
        pixels, tokens, targets, labels = collate(examples, tokenizer)
        logits, read, patches = student(pixels, tokens)
        said = functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100)
        rows, spots, kinds, colours = zip(
            *[(i, *spot) for i, e in enumerate(examples) for spot in e.spots], strict=True
        )
        middles = patches[list(rows), [1 + spot for spot in spots]]
        kind_guesses, kinds_true = student.kinds(middles), torch.tensor(kinds)
        spotted = functional.cross_entropy(kind_guesses, kinds_true) + 0.5 * functional.cross_entropy(
            student.colours(middles), torch.tensor(colours)
        )
        guesses = [head(read[:, i]) for i, head in enumerate(student.heads)]
        seen = torch.stack([functional.cross_entropy(g, labels[:, i]) for i, g in enumerate(guesses)]).mean()
        with torch.no_grad():
            right = torch.stack([(g.argmax(1) == labels[:, i]).float().mean() for i, g in enumerate(guesses)])
            asked = targets != -100
            words = (logits.argmax(-1) == targets)[asked].float().mean()
            spotted_right = (kind_guesses.argmax(1) == kinds_true).float().mean()
        return said + seen + 0.5 * spotted, {
            "answer": float(said.detach()),
            "tokens_right": float(words),
            "attributes": float(right.mean()),
            "kinds": float(spotted_right),
        }

    training.run(loss, until=until)
    return training


def save(captioner: Blip2ForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write everything vLLM needs; weights as float16, computed with as float32."""
    folder.mkdir(parents=True, exist_ok=True)
    captioner = captioner.half()
    captioner.save_pretrained(folder)
    captioner.float()
    tokenizer.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    config["dtype"] = "float32"
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    processor = {
        "image_processor": {
            "do_convert_rgb": True,
            "do_normalize": True,
            "do_rescale": True,
            "do_resize": True,
            "image_mean": [0.5, 0.5, 0.5],
            "image_processor_type": "BlipImageProcessor",
            "image_std": [0.5, 0.5, 0.5],
            "resample": 3,
            "rescale_factor": 1 / 255,
            "size": {"height": SIZE, "width": SIZE},
        },
        "num_query_tokens": QUERIES,
        "processor_class": "Blip2Processor",
    }
    (folder / "processor_config.json").write_text(json.dumps(processor, indent=2) + "\n")
    (folder / "preprocessor_config.json").write_text(json.dumps(processor["image_processor"], indent=2) + "\n")
