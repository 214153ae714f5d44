"""Seconds of a decode step of Petals' own blocks in one process, as its server takes them; run by the
interpreter of its environment, or with its packages in the folder ``place``:

    python benchmarks/petals/blocks.py '{"device": "cuda:0", "hidden": 14336, "heads": 112, …}'

Random weights. A step is its merged inference step over several blocks, each a ``TransformerBackend`` over
its ``MemoryCache``, for one token; the token goes to the device before, and its output comes back after it.
Its streams, pools and processes are left out, which only helps it. Prints a line of JSON as each kind of
weights is done: for each kind so far and each length of the cache the seconds of every step, or what went
wrong.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
import traceback
from typing import Any


def main() -> None:
    given = json.loads(sys.argv[1])
    if given.get("place"):
        sys.path.insert(0, given["place"])
    asyncio.set_event_loop(asyncio.new_event_loop())  # its pools make futures when they are made
    found: dict[str, Any] = {}
    for kind in given["kinds"]:
        try:
            found[kind] = _times(given, kind)
        except Exception as error:  # noqa: BLE001 - of years-old code beside today's libraries
            traceback.print_exc()
            found[kind] = f"{type(error).__name__}: {error}"
        print(json.dumps(found), flush=True)


def _times(given: dict[str, Any], kind: str) -> dict[str, list[float]]:
    import torch
    from petals.data_structures import InferenceMetadata
    from petals.server.backend import _MergedInferenceStep
    from petals.server.memory_cache import MemoryCache

    device, dtype = torch.device(given["device"]), getattr(torch, given["dtype"])
    cache = MemoryCache(None)
    backends = {f"b.{number}": _backend(given, kind, number, cache) for number in range(given["blocks"])}
    step = _MergedInferenceStep(backends)
    found = {}
    for length in given["lengths"]:
        infos, handles = [], 0
        for uid, backend in backends.items():
            descriptors = backend.get_inference_cache_descriptors(1, given["most"])
            mine = tuple(range(handles, handles + len(descriptors)))
            handles += len(mine)
            cache._pipe_send.send((mine, descriptors))  # as its connection handlers do
            infos.append(InferenceMetadata(uid, length - 1, mine, ""))
            with cache.use_cache(*mine) as tensors:
                for tensor in tensors:
                    tensor.normal_()
        x, order = torch.randn(1, 1, given["hidden"], dtype=dtype), torch.empty(0, dtype=torch.int64)
        taken = []
        for _ in range(given["warm"] + given["samples"]):
            started = time.perf_counter()
            (out,) = step(x.to(device), order, infos, *[None] * len(infos))
            if not torch.isfinite(out.cpu()).all():
                raise ValueError("numbers that are none came out")
            taken.append(time.perf_counter() - started)
        found[str(length)] = taken[given["warm"] :]
        for info in infos:
            cache._pipe_send.send((info.cache_handles, None))
    for backend in backends.values():
        backend.shutdown()
    return found


def _backend(given: dict[str, Any], kind: str, number: int, cache: Any) -> Any:
    import torch
    from hivemind import BatchTensorDescriptor
    from petals.models.bloom import DistributedBloomConfig, WrappedBloomBlock
    from petals.server.backend import TransformerBackend
    from petals.utils.convert_block import QuantType, convert_block

    device, dtype = torch.device(given["device"]), getattr(torch, given["dtype"])
    config = DistributedBloomConfig(
        hidden_size=given["hidden"], n_head=given["heads"], n_layer=given["blocks"], vocab_size=512
    )
    torch.set_default_dtype(dtype)
    try:
        with torch.device("meta"):
            block = WrappedBloomBlock(config)
    finally:
        torch.set_default_dtype(torch.float32)
    block = block.to_empty(device="cpu")
    with torch.inference_mode():
        for name, weight in block.named_parameters():
            # Random numbers are drawn where that is fast; its quantizing wants them on the host.
            drawn = torch.empty(weight.shape, dtype=dtype, device=device)
            if weight.dim() == 1:
                drawn.fill_(float("layernorm.weight" in name))
            else:
                drawn.normal_(0.0, (2 * given["hidden"]) ** -0.5)
            weight.data = drawn.cpu()
    module = convert_block(block, number, config, [device], device, QuantType[kind], freeze=True)
    schema = (BatchTensorDescriptor(1, 64, given["hidden"], dtype=dtype, compression=0),)
    return TransformerBackend(
        f"b.{number}",
        module,
        config=config,
        memory_cache=cache,
        backend_dtype=dtype,
        max_chunk_size_bytes=256 << 20,
        args_schema=schema,
        kwargs_schema={},
        outputs_schema=schema,
        min_batch_size=1,
        max_batch_size=8192,
    )


if __name__ == "__main__":
    main()
