"""A BLIP-2 checkpoint with random weights, so that a real vLLM can be run where no trained captioner is at hand."""

from pathlib import Path


def make_tiny_blip2(folder: Path) -> Path:
    """Write a BLIP-2 of about 1.6 million random parameters (64 px images, byte-level BPE) that vLLM can serve."""
    import torch
    from tokenizers import ByteLevelBPETokenizer
    from transformers import (
        Blip2Config,
        Blip2ForConditionalGeneration,
        Blip2Processor,
        Blip2QFormerConfig,
        Blip2VisionConfig,
        BlipImageProcessor,
        OPTConfig,
        PreTrainedTokenizerFast,
    )

    torch.manual_seed(0)
    words = ["Center: red ball, tree; Surrounding: rock, dawn, flowers"] * 3
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(
        words, vocab_size=400, min_frequency=1, special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<image>"]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe._tokenizer,
        bos_token="</s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        additional_special_tokens=["<image>"],
    )
    tokenizer.chat_template = (
        "{% for message in messages %}{% for part in message['content'] %}"
        "{% if part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}{% endfor %}"
    )
    size = len(tokenizer)
    config = Blip2Config(
        vision_config=Blip2VisionConfig(
            hidden_size=128,
            intermediate_size=256,
            num_hidden_layers=3,
            num_attention_heads=4,
            image_size=64,
            patch_size=8,
        ).to_dict(),
        qformer_config=Blip2QFormerConfig(
            hidden_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=256,
            encoder_hidden_size=128,
            vocab_size=size,
        ).to_dict(),
        text_config=OPTConfig(
            vocab_size=size,
            hidden_size=128,
            word_embed_proj_dim=128,
            num_hidden_layers=4,
            ffn_dim=512,
            num_attention_heads=4,
            max_position_embeddings=512,
            pad_token_id=1,
            bos_token_id=2,
            eos_token_id=2,
        ).to_dict(),
        num_query_tokens=16,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    model = Blip2ForConditionalGeneration(config).eval()
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    processor = Blip2Processor(BlipImageProcessor(size={"height": 64, "width": 64}), tokenizer, num_query_tokens=16)
    processor.save_pretrained(folder)
    return folder
