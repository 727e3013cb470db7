"""Machine: what networks compute on. The last bits of what they make depend on it: records say it, no key does."""


def machine() -> dict[str, str | int]:
    """``device``, the name of the GPU or the instruction set of the CPU, and ``threads`` of this process."""
    import torch

    cpu = f"CPU, {torch.backends.cpu.get_cpu_capability()}"
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else cpu
    return {"device": device, "threads": torch.get_num_threads()}
