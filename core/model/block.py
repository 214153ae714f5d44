"""One transformer block of BLOOM: ln → attention → residual → ln → feed-forward → residual.

The residual stream and the norms are float32 whatever the compute dtype; only the products' inputs
are rounded to it. In bfloat16 that halves the error at no measurable cost.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from core.model.attention import Attention
from core.model.config import ModelConfig
from core.model.cuda.kernels import kernels_of
from core.model.cuda.products import FewBitsLinear
from core.model.linear import Linear, PlainLinear, linear
from core.model.weights import Checkpoint


@dataclass(frozen=True)
class Norm:
    """Layer normalisation over the last dimension, in float32."""

    weight: Tensor
    bias: Tensor
    epsilon: float

    def __call__(self, x: Tensor) -> Tensor:
        return torch.layer_norm(x, self.weight.shape, self.weight, self.bias, self.epsilon)

    def rounded(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """The same in ``dtype``."""
        if x.is_cuda and dtype is torch.bfloat16 and (kit := kernels_of(x.device)):
            return kit.normalise(x, self.weight, self.bias, self.epsilon)
        return self(x).to(dtype)


@dataclass(frozen=True)
class Block:
    """The weights of one block and its forward pass."""

    heads: int
    dtype: torch.dtype
    residual_post_layernorm: bool
    before_attention: Norm
    qkv: Linear
    dense: Linear
    before_mlp: Norm
    up: Linear
    down: Linear

    def __call__(self, hidden: Tensor, cache: Tensor, how: Attention) -> Tensor:
        """``hidden`` [rows, hidden] float32 → the same, in place; ``cache`` is this block's storage."""
        normed, residual = self._normed(self.before_attention, hidden)
        qkv = self.qkv(normed).view(hidden.shape[0], self.heads, 3, -1)
        hidden = residual.add_(self.dense(how.attend(qkv, cache)))
        normed, residual = self._normed(self.before_mlp, hidden)
        return residual.add_(self.down(self.up.gelu(normed)))

    @property
    def recordable(self) -> bool:
        """Whether a step of few rows is all kernels, none of which waits for the device."""
        return all(isinstance(one, PlainLinear | FewBitsLinear) for one in self.linears)

    @property
    def linears(self) -> tuple[Linear, ...]:
        return self.qkv, self.dense, self.up, self.down

    def _normed(self, norm: Norm, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """What goes into the product, and what goes around it."""
        if self.residual_post_layernorm:
            normed = norm(hidden)
            return normed.to(self.dtype, copy=True), normed
        return norm.rounded(hidden, self.dtype), hidden


def load_norm(checkpoint: Checkpoint, name: str, config: ModelConfig, device: torch.device) -> Norm:
    weight, bias = (
        checkpoint.tensor(f"{name}.{part}").to(device, torch.float32, copy=True)
        for part in ("weight", "bias")
    )
    return Norm(weight, bias, config.epsilon)


def load_linear(checkpoint: Checkpoint, name: str, dtype: torch.dtype, device: torch.device) -> Linear:
    weight, bias = (
        checkpoint.tensor(f"{name}.{part}").to(device, dtype, copy=True) for part in ("weight", "bias")
    )
    return linear(weight, bias)


LINEARS = (
    "self_attention.query_key_value",
    "self_attention.dense",
    "mlp.dense_h_to_4h",
    "mlp.dense_4h_to_h",
)
NORMS = ("input_layernorm", "post_attention_layernorm")


def load_block(
    checkpoint: Checkpoint, config: ModelConfig, number: int, dtype: torch.dtype, device: torch.device
) -> Block:
    """Block ``number``, counted from 0 as in the checkpoint's names."""
    return make_block(
        config,
        dtype,
        norm=lambda name: load_norm(checkpoint, f"h.{number}.{name}", config, device),
        product=lambda name: load_linear(checkpoint, f"h.{number}.{name}", dtype, device),
    )


def make_block(
    config: ModelConfig,
    dtype: torch.dtype,
    *,
    norm: Callable[[str], Norm],
    product: Callable[[str], Linear],
) -> Block:
    """A block of what ``norm`` and ``product`` give for its NORMS and LINEARS."""
    return Block(
        heads=config.heads,
        dtype=dtype,
        residual_post_layernorm=config.residual_post_layernorm,
        before_attention=norm("input_layernorm"),
        qkv=product("self_attention.query_key_value"),
        dense=product("self_attention.dense"),
        before_mlp=norm("post_attention_layernorm"),
        up=product("mlp.dense_h_to_4h"),
        down=product("mlp.dense_4h_to_h"),
    )
