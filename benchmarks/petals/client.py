"""Petals' own client and measuring loop; runs in the environment of ``install`` and knows nothing of ours.

    python client.py NAME DTYPE PEER …

Requests and answers are lines of JSON as in ``benchmarks.children``: prompts of token ids that are asked at
once, a thread each, and how many tokens to draw; when each token was there. As in Petals'
``benchmark_inference``, ``generate`` is called for one token at a time in a session.
"""

import json
import sys
import threading
import time

import torch
from petals import AutoDistributedModelForCausalLM


def answer(model, ids, count):
    asked, times, out = time.perf_counter(), [], []
    prompt = torch.tensor([ids])
    with torch.inference_mode(), model.inference_session(max_length=len(ids) + count + 1) as session:
        for number in range(count):
            given = prompt if number == 0 else None
            drawn = model.generate(given, max_new_tokens=1, do_sample=False, session=session)
            times.append(time.perf_counter())
            out.append(int(drawn[0, -1]))
    return {"asked": asked, "times": times, "ids": out}


def main():
    name, dtype, *peers = sys.argv[1:]
    torch.set_num_threads(1)
    model = AutoDistributedModelForCausalLM.from_pretrained(
        name, initial_peers=peers, torch_dtype=getattr(torch, dtype)
    )
    model.config.eos_token_id = model.generation_config.eos_token_id = None
    print(json.dumps({}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        told = [None] * len(request["prompts"])

        def ask(number, ids, told=told, count=request["count"]):
            told[number] = answer(model, ids, count)

        threads = [
            threading.Thread(target=ask, args=(number, ids)) for number, ids in enumerate(request["prompts"])
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print(json.dumps({"answers": told}), flush=True)


if __name__ == "__main__":
    main()
